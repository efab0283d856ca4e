"""The item pipelines: an item's images come from the cache, or are fetched once and stored."""

import logging
from abc import abstractmethod
from collections.abc import Iterator
from io import BytesIO
from typing import TYPE_CHECKING, Any, NoReturn, cast

from itemadapter import ItemAdapter
from scrapy import Request
from scrapy.exceptions import IgnoreRequest
from scrapy.http import Response
from scrapy.pipelines.files import FilesPipeline
from scrapy.pipelines.images import ImageException, ImagesPipeline
from scrapy.pipelines.media import FileException, FileInfo, FileInfoOrError, MediaPipeline
from scrapy.utils.defer import ensure_awaitable
from twisted.python.failure import Failure

from imgcache_scrapy.core.admission import ACCEPTED_STATUSES
from imgcache_scrapy.core.entry import Entry, blob_key
from imgcache_scrapy.core.errors import ConfigurationError
from imgcache_scrapy.core.formats import has_image_suffix
from imgcache_scrapy.plugin.conversion import Converted, Converter, encoded
from imgcache_scrapy.plugin.failures import ImageFailed
from imgcache_scrapy.plugin.media import CachedMediaPipeline, Obtained, spelling

if TYPE_CHECKING:
    from scrapy.crawler import Crawler

logger = logging.getLogger(__name__)


class ImgCachePipeline(CachedMediaPipeline):
    """Items with `image_urls` get `images`, kept in the cache alone: a hit moves no bytes.

    `path` is the blob's key, `checksum` the content hash. A request that keeps the cache out
    (`imgcache` False, `dont_cache`) is fetched anew, and stored: there is no other place for it.
    """

    needs_bytes = False

    def __init__(self, *, crawler: "Crawler") -> None:
        super().__init__(crawler=crawler)
        settings = self.crawl.settings
        if not settings.enabled:
            raise ConfigurationError(
                "IMGCACHE_ENABLED is False, and ImgCachePipeline has nowhere else to put images: "
                "take it out of ITEM_PIPELINES (or the add-on out of ADDONS), or use "
                "ImgCacheFilesPipeline"
            )
        self.urls_field, self.result_field = settings.urls_field, settings.result_field

    async def deliver(self, obtained: Obtained, request: Request, item: Any) -> FileInfo:
        """Give the entry; the bytes stay in the cache."""
        entry, response = obtained.entry, obtained.response
        if obtained.refusal is not None:
            raise obtained.refusal
        if entry is None:
            raise ImageFailed("store", "the cache did not take the image")
        self._check_size(entry)
        request.meta["imgcache_entry"] = entry
        info: FileInfo = {
            "url": request.url,
            "path": self.file_path(request, response, self.spiderinfo, item=item),
            "checksum": entry["content_hash"],
            "status": _status(obtained),
        }
        return _with_entry(info, entry)

    def must_store(self, request: Request) -> bool:
        """Every image goes into the cache: there is no other place for it."""
        if request.method != "GET":
            raise ImageFailed("not_get", "only what a GET request gives can be cached")
        return True

    def item_completed(
        self, results: list[FileInfoOrError], item: Any, info: MediaPipeline.SpiderInfo
    ) -> Any:
        """Put the results into the item, if it is one that has images."""
        has_images = results or self.urls_field in ItemAdapter(item)
        return super().item_completed(results, item, info) if has_images else item

    def media_to_download(self, request: Request, info: Any, *, item: Any = None) -> None:
        """There are no local files to look for."""

    def media_downloaded(
        self, response: Response, request: Request, info: Any, *, item: Any = None
    ) -> NoReturn:
        """Never called: images are delivered from the cache alone."""
        raise NotImplementedError

    def media_failed(self, failure: Failure, request: Request, info: Any) -> NoReturn:  # noqa: ARG002
        """Log why a URL gave no image."""
        level = logging.DEBUG if isinstance(failure.value, IgnoreRequest) else logging.WARNING
        logger.log(
            level,
            "No image from %.200s: %s",
            spelling(request),
            failure.value,
            extra={"spider": self.crawler.spider},
        )
        raise FileException(str(failure.value))

    def file_path(
        self,
        request: Request,
        response: Response | None = None,  # noqa: ARG002
        info: Any = None,  # noqa: ARG002
        *,
        item: Any = None,  # noqa: ARG002
    ) -> str:
        """Give the key of the blob, once the image is known."""
        return blob_key(request.meta["imgcache_entry"]["content_hash"])

    def _check_size(self, entry: Entry) -> None:
        settings, width, height = self.crawl.settings, entry["width"], entry["height"]
        if width is None or height is None:
            return
        if width < settings.min_width or height < settings.min_height:
            least = f"{settings.min_width}x{settings.min_height}"
            raise ImageFailed("too_small", f"{width}x{height} pixels, not {least}", fate="rejected")


class DropInPipeline(CachedMediaPipeline):
    """What the drop-ins share: Scrapy's own pipeline delivers what the cache or the site gave.

    All of Scrapy's settings and hooks hold; a file that is up to date locally needs no lookup.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        is_unset = self.crawler.settings.get("MEDIA_ALLOW_REDIRECTS") is None
        self.follows_redirects = self.allow_redirects or is_unset

    @abstractmethod
    def takes(self, refusal: ImageFailed, request: Request) -> bool:
        """Tell whether Scrapy's pipeline is to have what the cache refuses."""

    async def deliver(self, obtained: Obtained, request: Request, item: Any) -> FileInfo:
        """Have Scrapy's pipeline write the files of the response."""
        entry, response, refusal = obtained.entry, obtained.response, obtained.refusal
        assert response is not None  # noqa: S101 - asked for by needs_bytes
        # Of a bad status the hook decides: it may know what to do with a 404.
        if refusal and response.status in ACCEPTED_STATUSES and not self.takes(refusal, request):
            raise refusal
        if entry is None:
            return await self._written(response, request, item, refusal)
        # After a redirect the response is another request's.
        request.meta["imgcache_entry"] = response.meta["imgcache_entry"] = entry
        info = await self._written(response, request, item)
        return _with_entry({**info, "status": _status(obtained)}, entry)

    async def _written(
        self, response: Response, request: Request, item: Any, refusal: ImageFailed | None = None
    ) -> FileInfo:
        if response.status in ACCEPTED_STATUSES:
            response = response.replace(status=200)  # Scrapy's pipelines take no other
        try:
            return await ensure_awaitable(
                self.media_downloaded(response, request, self.spiderinfo, item=item)
            )
        except ImageException as error:
            raise ImageFailed("too_small", str(error), fate="rejected") from error
        except Exception as error:
            raise refusal or ImageFailed("processing", str(error)) from error


class ImgCacheFilesPipeline(DropInPipeline, FilesPipeline):
    """Scrapy's FilesPipeline with the cache in front: original bytes in `FILES_STORE`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.urls_field, self.result_field = self.files_urls_field, self.files_result_field

    def takes(self, refusal: ImageFailed, request: Request) -> bool:
        """A file of any other kind, unless a picture was asked for."""
        return refusal.reason in {"html", "not_image"} and not has_image_suffix(request.url)


class ImgCacheImagesPipeline(DropInPipeline, ImagesPipeline):
    """Scrapy's ImagesPipeline with the cache in front: JPEG and thumbnails in `IMAGES_STORE`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.urls_field, self.result_field = self.images_urls_field, self.images_result_field
        self._converter = Converter()
        self._converted: dict[Response, list[Converted]] = {}

    async def image_downloaded(
        self,
        response: Response,
        request: Request,
        info: MediaPipeline.SpiderInfo,
        *,
        item: Any = None,
    ) -> str:
        """As Scrapy's, but converts in a thread, unless a subclass has its own way to convert."""
        if self.crawl.settings.enabled and self._converts_as_scrapy:
            images = super().get_images(response, request, info, item=item)
            self._converted[response] = await self._converter.convert(images)
        return await super().image_downloaded(response, request, info, item=item)

    def get_images(
        self,
        response: Response,
        request: Request,
        info: MediaPipeline.SpiderInfo,
        *,
        item: Any = None,
    ) -> Iterator[tuple[str, Any, BytesIO]]:
        """As Scrapy's; what was converted already is given as it is."""
        converted = self._converted.pop(response, None)
        if converted is not None:
            return iter(converted)
        return super().get_images(response, request, info, item=item)

    def convert_image(
        self, image: Any, size: tuple[int, int] | None = None, *, response_body: BytesIO
    ) -> tuple[Any, BytesIO]:
        """As Scrapy's, but lets the event loop run meanwhile in the commonest case."""
        if size or image.format is not None or image.mode != "RGB":
            return super().convert_image(image, size, response_body=response_body)
        return image, encoded(image)

    @property
    def _converts_as_scrapy(self) -> bool:
        own = type(self)
        return (
            own.get_images is ImgCacheImagesPipeline.get_images
            and own.convert_image is ImgCacheImagesPipeline.convert_image
        )

    def takes(self, refusal: ImageFailed, request: Request) -> bool:  # noqa: ARG002
        """Formats that Pillow alone knows."""
        return refusal.reason == "not_image"


def _status(obtained: Obtained) -> str:
    entry, response = obtained.entry, obtained.response
    if obtained.is_hit or entry is None:
        return "cached"
    if "created" not in entry:
        return "spooled"
    if response is not None and "cached" in response.flags:  # by us, or by HttpCache
        return "cached"
    return "downloaded" if entry["created"] else "duplicate"


def _with_entry(info: FileInfo, entry: Entry) -> FileInfo:
    beside = {"url", "created", *info}
    more = {name: value for name, value in entry.items() if name not in beside}
    return cast("FileInfo", {**info, **more})
