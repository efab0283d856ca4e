"""ImgCachePipeline: keeps an item's images in the cache only, without local files."""

import logging
from typing import TYPE_CHECKING, Any, NoReturn

from itemadapter import ItemAdapter
from scrapy import Request
from scrapy.exceptions import IgnoreRequest
from scrapy.http import Response
from scrapy.pipelines.images import ImageException
from scrapy.pipelines.media import FileInfo, FileInfoOrError, MediaPipeline
from twisted.python.failure import Failure

from imgcache_scrapy.core.entry import Entry, blob_key
from imgcache_scrapy.core.errors import ConfigurationError
from imgcache_scrapy.plugin import meta
from imgcache_scrapy.plugin.item_requests import item_url
from imgcache_scrapy.plugin.media import CachedMediaPipeline, with_entry
from imgcache_scrapy.plugin.outcome import ImageFailed, Outcome

if TYPE_CHECKING:
    from scrapy.crawler import Crawler


class ImgCachePipeline(CachedMediaPipeline):
    """Fills `images` from `image_urls`; images stay in the cache, so a hit reads no bytes.

    In a result, `path` is the blob's key and `checksum` the content hash. A request that bypasses
    the cache (`imgcache` False, `dont_cache`) is fetched again and stored, because there is no
    other place for its image.
    """

    needs_bytes = False
    must_store = True

    def __init__(self, *, crawler: "Crawler") -> None:
        super().__init__(crawler=crawler)
        settings = self.session.settings
        if not settings.enabled:
            raise ConfigurationError(
                "IMGCACHE_ENABLED is False, and ImgCachePipeline has no other place for images: "
                "remove it from ITEM_PIPELINES (or the add-on from ADDONS), or use "
                "ImgCacheFilesPipeline"
            )
        self.urls_field, self.result_field = settings.urls_field, settings.result_field

    async def deliver(self, outcome: Outcome, request: Request, item: Any) -> FileInfo:
        """Return the result of an image, made from its entry."""
        if outcome.error is not None:
            raise outcome.error
        entry = outcome.entry
        assert entry is not None  # noqa: S101 - every image is stored
        self._check_size(entry)
        request.meta[meta.ENTRY] = entry
        result: FileInfo = {
            "url": request.url,
            "path": self.file_path(request, outcome.response, self.spiderinfo, item=item),
            "checksum": entry["content_hash"],
            "status": outcome.status,
        }
        return with_entry(result, entry)

    def item_completed(
        self, results: list[FileInfoOrError], item: Any, info: MediaPipeline.SpiderInfo
    ) -> Any:
        """Put the results into the item if it has image URLs or a field for them."""
        has_images = results or self.urls_field in ItemAdapter(item)
        return super().item_completed(results, item, info) if has_images else item

    def media_to_download(self, request: Request, info: Any, *, item: Any = None) -> None:
        """Do nothing: there are no local files."""

    def media_downloaded(
        self, response: Response, request: Request, info: Any, *, item: Any = None
    ) -> NoReturn:
        """Do not call this: it exists only because Scrapy's base class requires it."""
        raise NotImplementedError

    def media_failed(self, failure: Failure, request: Request, info: Any) -> NoReturn:  # noqa: ARG002
        """Log why a URL gave no image."""
        level = logging.DEBUG if isinstance(failure.value, IgnoreRequest) else logging.WARNING
        self.log.log(level, "No image from %.200s: %s", item_url(request), failure.value)
        raise ImageException(str(failure.value))

    def file_path(
        self,
        request: Request,
        response: Response | None = None,  # noqa: ARG002
        info: Any = None,  # noqa: ARG002
        *,
        item: Any = None,  # noqa: ARG002
    ) -> str:
        """Return the key of the blob; call it only after the image was found or stored."""
        return blob_key(request.meta[meta.ENTRY]["content_hash"])

    def _check_size(self, entry: Entry) -> None:
        settings, width, height = self.session.settings, entry["width"], entry["height"]
        if width is None or height is None:
            return
        if width < settings.min_width or height < settings.min_height:
            problem = (
                f"{width}x{height} pixels, less than {settings.min_width}x{settings.min_height}"
            )
            raise ImageFailed("too_small", problem, fate="rejected")
