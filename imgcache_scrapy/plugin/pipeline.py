"""ImgCachePipeline: keeps an item's images in the cache only, without local files."""

import logging
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn
from weakref import WeakKeyDictionary

from itemadapter import ItemAdapter
from scrapy import Request
from scrapy.exceptions import IgnoreRequest
from scrapy.http import Response
from scrapy.pipelines.media import FileInfo, FileInfoOrError, MediaPipeline
from twisted.python.failure import Failure

from imgcache_scrapy.core.entry import blob_key
from imgcache_scrapy.core.errors import ConfigurationError
from imgcache_scrapy.plugin import meta
from imgcache_scrapy.plugin.download_limit import exceeds_limit, limit_download
from imgcache_scrapy.plugin.item_requests import item_request, item_url
from imgcache_scrapy.plugin.media import CachedMediaPipeline
from imgcache_scrapy.plugin.minimum_size import size_problem
from imgcache_scrapy.plugin.outcome import ImageFailed, Outcome, too_large_error
from imgcache_scrapy.plugin.results import with_entry
from imgcache_scrapy.plugin.source import ImageSource

if TYPE_CHECKING:
    from scrapy.crawler import Crawler


class CacheOnlySource(ImageSource):
    """Makes results from entries: a hit reads no bytes, and every image is stored."""

    needs_bytes = False
    must_store = True

    async def deliver(
        self, outcome: Outcome, request: Request, info: MediaPipeline.SpiderInfo, item: Any
    ) -> Any:
        """Return the result of an image, made from its entry."""
        if outcome.error is not None:
            raise outcome.error
        entry = outcome.entry
        assert entry is not None  # noqa: S101 - every image is stored
        problem = await size_problem(self.flow.session, entry, outcome.response)
        if problem is not None:
            raise ImageFailed("too_small", problem, fate="rejected")
        request.meta[meta.ENTRY] = entry
        result: FileInfo = {
            "url": request.url,
            "path": self.pipeline.file_path(request, outcome.response, info, item=item),
            "checksum": entry["content_hash"],
            "status": outcome.status,
        }
        return with_entry(result, outcome)

    async def _fetch(self, url: str, request: Request) -> Response:
        limit = limit_download(request, self.pipeline.crawler, self.settings.max_image_bytes)
        try:
            return await super()._fetch(url, request)
        except Exception as error:
            if exceeds_limit(error):
                raise too_large_error(limit) from error
            raise


class _UrlFingerprinter:
    """Gives requests of the same URL the same result."""

    def __init__(self, source: ImageSource) -> None:
        self._source = source
        # A request is asked for several times while its image is processed.
        self._known: WeakKeyDictionary[Request, bytes] = WeakKeyDictionary()

    def fingerprint(self, request: Request) -> bytes:
        """Return what identifies the URL of a request."""
        known = self._known.get(request)
        if known is None:
            key = self._source.url_key(request)
            known = self._known[request] = key.encode(errors="surrogatepass")
        return known


class ImgCachePipeline(CachedMediaPipeline):
    """Fills `images` from `image_urls`; images stay in the cache, so a hit reads no bytes.

    In a result, `path` is the blob's key and `checksum` the content hash. A request that bypasses
    the cache (`imgcache` False, `dont_cache`) is fetched again and stored, because there is no
    other place for its image. Each item gets its own copy of a result.
    """

    _imgcache_source = CacheOnlySource
    _imgcache_ignored: ClassVar = {
        "IMGCACHE_PATH": "only ImgCacheFilesPipeline and ImgCacheImagesPipeline write files",
    }

    def __init__(self, *, crawler: "Crawler") -> None:
        super().__init__(crawler=crawler)
        if not self._imgcache.is_enabled:
            raise ConfigurationError(
                "IMGCACHE_ENABLED is False, and ImgCachePipeline has no other place for images: "
                "remove it from ITEM_PIPELINES (or the add-on from ADDONS), or use "
                "ImgCacheFilesPipeline"
            )
        self._fingerprinter = _UrlFingerprinter(self._imgcache)
        self._imgcache_follow_redirects()

    def get_media_requests(self, item: Any, info: MediaPipeline.SpiderInfo) -> list[Request]:  # noqa: ARG002
        """Create one request per URL of the item; the request of a bad URL will fail.

        Override this hook to add headers, a referer, cookies or meta to the requests.
        """
        field = self._imgcache.settings.urls_field
        urls = ItemAdapter(item).get(field) or []
        if not isinstance(urls, (list, tuple)):
            raise TypeError(f"{field} must be a list of URLs, got {type(urls).__name__}")
        return [item_request(url) for url in urls]

    def item_completed(
        self,
        results: list[FileInfoOrError],
        item: Any,
        info: MediaPipeline.SpiderInfo,  # noqa: ARG002
    ) -> Any:
        """Put the successful results into the item, in the order of its URLs.

        An item without image URLs and without a field for them stays as it is.
        """
        settings = self._imgcache.settings
        if results or settings.urls_field in ItemAdapter(item):
            found = [result for ok, result in results if ok]
            self._imgcache.put(item, settings.result_field, found)
        return item

    def media_to_download(self, request: Request, info: Any, *, item: Any = None) -> None:
        """Do nothing: there are no local files."""

    def media_downloaded(
        self, response: Response, request: Request, info: Any, *, item: Any = None
    ) -> NoReturn:
        """Do not call this: it exists only because Scrapy's base class requires it."""
        raise NotImplementedError

    def media_failed(self, failure: Failure, request: Request, info: Any) -> NoReturn:  # noqa: ARG002
        """Log why a URL gave no image, and raise it.

        Raises:
            ImageFailed: always.
        """
        error: Any = failure.value
        failed = ImageFailed.of(self._imgcache.failure(request) or error)
        level = logging.DEBUG if isinstance(error, IgnoreRequest) else logging.WARNING
        self._imgcache.log.log(level, "No image from %.200s: %s", item_url(request), failed)
        raise failed from error

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

    def _imgcache_result_field(self) -> str:
        return self._imgcache.settings.result_field

    async def _process_request(
        self, request: Request, info: MediaPipeline.SpiderInfo, item: Any
    ) -> Any:
        url = item_url(request)
        result = await super()._process_request(request, info, item)
        known = info.downloaded.get(self._fingerprinter.fingerprint(request))
        # Scrapy gives the same dictionary, with the first item's URL, to all items.
        return {**result, "url": url} if result is known and isinstance(result, dict) else result
