"""The item pipelines: an item's images come from the cache, or are fetched once and stored."""

import asyncio
import logging
from abc import abstractmethod
from typing import TYPE_CHECKING, Any, NoReturn, Self, cast

from itemadapter import ItemAdapter
from scrapy import Request, Spider
from scrapy.exceptions import (
    CannotResolveHostError,
    DownloadConnectionRefusedError,
    DownloadTimeoutError,
    IgnoreRequest,
    NotConfigured,
    ResponseDataLossError,
)
from scrapy.http import Response
from scrapy.http.request import NO_CALLBACK
from scrapy.pipelines.files import FilesPipeline
from scrapy.pipelines.images import ImageException, ImagesPipeline
from scrapy.pipelines.media import FileException, FileInfo, FileInfoOrError, MediaPipeline
from scrapy.utils.datatypes import SequenceExclude
from scrapy.utils.defer import ensure_awaitable
from scrapy.utils.misc import arg_to_iter
from twisted.python.failure import Failure
from w3lib.url import parse_data_uri

from imgcache_scrapy.admission import ACCEPTED_STATUSES, MESSAGES
from imgcache_scrapy.crawl import Crawl, Fate, require_asyncio
from imgcache_scrapy.entry import Entry, blob_key
from imgcache_scrapy.errors import ConfigurationError, InvalidRequestError
from imgcache_scrapy.joining import Once
from imgcache_scrapy.responses import bypasses_cache, cached_response, is_from_cache, refusal_of
from imgcache_scrapy.urls import cache_key, data_key, fetchable

if TYPE_CHECKING:
    from scrapy.crawler import Crawler

logger = logging.getLogger(__name__)

# Results and failures that are remembered, so that a URL in many items is looked after once.
REMEMBERED = 10_000

_REDIRECTS_FOLLOWED = SequenceExclude(range(300, 400))
_DOWNLOAD_FAILURES: dict[type[Exception], tuple[str, Fate]] = {
    CannotResolveHostError: ("dns", "failed"),
    DownloadConnectionRefusedError: ("connection", "failed"),
    DownloadTimeoutError: ("timeout", "failed"),
    IgnoreRequest: ("filtered", "failed"),
    ResponseDataLossError: ("truncated", "rejected"),
}


class ImageFailed(FileException):
    """An image URL that gave no image.

    Attributes:
        reason: the code of why, as in the stats.
        fate: `rejected` where something came that is not to be kept, else `failed`.
        http_status: of the site's answer, None where there was none.
    """

    def __init__(
        self, reason: str, message: str, *, fate: Fate = "failed", http_status: int | None = None
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.fate = fate
        self.http_status = http_status


class CachedMediaPipeline(MediaPipeline):
    """Puts the cache in front of a media pipeline: lookup, else fetch, admit, store; then deliver.

    Scrapy's hooks are called as they are in its own pipelines: `get_media_requests`,
    `media_to_download`, `media_downloaded`, `media_failed`, `item_completed`. Each URL is looked
    after once in a crawl, and each item gets results of its own.

    Raises:
        ConfigurationError: it cannot work; a pipeline that were silently gone would let items
            leave without their images.
    """

    urls_field: str
    result_field: str
    follows_redirects = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.crawl = Crawl.of(self.crawler)
        self._outcomes: Once[str, FileInfo | ImageFailed] = Once(remembered=REMEMBERED)
        self._fields_missed: set[str] = set()
        if self.crawl.settings.enabled:
            require_asyncio()
            _ = self.crawl.client

    @classmethod
    def from_crawler(cls, crawler: "Crawler") -> Self:
        """Make the pipeline of a crawl."""
        try:
            return super().from_crawler(crawler)
        except NotConfigured as error:
            raise ConfigurationError(f"{cls.__name__} cannot work: {error}") from error

    async def process_item(self, item: Any, spider: Spider | None = None) -> Any:  # noqa: ARG002
        """Give an item its images; it leaves when each of them is stored or has failed."""
        if not self.crawl.settings.enabled:
            return await super().process_item(item)
        requests: list[Request] = list(arg_to_iter(self.get_media_requests(item, self.spiderinfo)))
        results = await asyncio.gather(*(self._result(request, item) for request in requests))
        if field := self.crawl.settings.failures_field:
            self._put(item, field, _failures(requests, results))
        return self.item_completed(results, item, self.spiderinfo)

    def get_media_requests(self, item: Any, info: MediaPipeline.SpiderInfo) -> list[Request]:
        """Make one request per URL of the item; a bad URL becomes one that will fail.

        The hook for headers, a referer, cookies and meta: extend it and change what it returns.
        """
        if not self.crawl.settings.enabled:
            return super().get_media_requests(item, info)  # type: ignore[safe-super]
        urls = ItemAdapter(item).get(self.urls_field) or []
        if not isinstance(urls, (list, tuple)):
            raise TypeError(f"{self.urls_field} must be a list of URLs, got {type(urls).__name__}")
        return [_request(url) for url in urls]

    def item_completed(
        self, results: list[FileInfoOrError], item: Any, info: MediaPipeline.SpiderInfo
    ) -> Any:
        """Put the results into the item, in the order of its URLs, without those that failed."""
        if not self.crawl.settings.enabled:
            return super().item_completed(results, item, info)
        self._put(item, self.result_field, [found for ok, found in results if ok])
        return item

    @abstractmethod
    async def deliver_hit(self, entry: Entry, request: Request, item: Any) -> FileInfo | None:
        """Give the item an image that the cache has; None where its bytes cannot be had."""

    @abstractmethod
    async def deliver_fetched(
        self, entry: Entry | None, response: Response, request: Request, item: Any
    ) -> FileInfo:
        """Give the item an image that was fetched; the entry is None where it was not stored."""

    def must_store(self, request: Request) -> bool:
        """Tell whether what this request fetches goes into the cache."""
        return not bypasses_cache(request)

    async def _result(self, request: Request, item: Any) -> FileInfoOrError:
        url = request.meta.get("imgcache_url", request.url)
        errback, request.errback, request.callback = request.errback, None, NO_CALLBACK
        key = self._key(request)
        outcome = await self._outcomes.do(key, lambda: self._outcome(key, request, item))
        if not isinstance(outcome, ImageFailed):
            return True, cast("FileInfo", {**outcome, "url": url})
        if errback is not None:
            return True, errback(Failure(outcome))
        return False, Failure(outcome)

    async def _outcome(self, key: str, request: Request, item: Any) -> FileInfo | ImageFailed:
        try:
            return await self._image(key, request, item)
        except Exception as error:
            failed = _failed(error)
            self._tell(error, request)
        self.crawl.count(key, failed.fate, failed.reason)
        return failed

    def _tell(self, error: Exception, request: Request) -> None:
        """Call the hook that logs a failure, and that must raise."""
        try:
            self.media_failed(Failure(error), request, self.spiderinfo)
        except Exception:
            return

    async def _image(self, key: str, request: Request, item: Any) -> FileInfo:
        if bad_url := request.meta.get("imgcache_bad_url"):
            raise ImageFailed("bad_url", bad_url)
        local = await ensure_awaitable(self.media_to_download(request, self.spiderinfo, item=item))
        if local:
            self.crawl.count(key, "hit")
            return cast("FileInfo", local)
        found = None if bypasses_cache(request) else await self._cached(key, request, item)
        return found or await self._fetched(key, request, item)

    async def _cached(self, key: str, request: Request, item: Any) -> FileInfo | None:
        entry = await self.crawl.lookup(key)
        if entry is None:
            return None
        found = await self.deliver_hit(entry, request, item)
        if found is not None:
            self.crawl.count(key, "hit", saved=entry["file_size_bytes"])
        return found

    async def _fetched(self, key: str, request: Request, item: Any) -> FileInfo:
        with await self.crawl.enter(self.crawl.expected_size) as place:
            response = await self._fetch(key, request)
            place.holds(len(response.body))
            _admit(response)
            entry = None
            if self.must_store(request):
                entry = await self.crawl.store(key, response)
            found = await self.deliver_fetched(entry, response, request, item)
        self.crawl.count_stored(key, response, entry)
        return found

    async def _fetch(self, key: str, request: Request) -> Response:
        if request.url.startswith("data:"):
            return Response(request.url, body=parse_data_uri(request.url).data, request=request)
        request.meta.setdefault("allow_offsite", True)
        request.meta["imgcache_managed"] = key
        if self.follows_redirects:
            request.meta["handle_httpstatus_list"] = _REDIRECTS_FOLLOWED
        else:
            request.meta["handle_httpstatus_all"] = True
        return await self.crawler.engine.download_async(request)

    def _key(self, request: Request) -> str:
        """Name what the request is for; what makes it a bad one is noted in its meta."""
        if "imgcache_bad_url" in request.meta:
            return repr(request.meta["imgcache_url"])
        if request.method != "GET":
            return self.crawler.request_fingerprinter.fingerprint(request).hex()
        try:
            is_data = request.url.startswith("data:")
            return data_key(request.url) if is_data else cache_key(request.url)
        except InvalidRequestError as error:
            request.meta["imgcache_bad_url"] = str(error)
            return request.url

    def _put(self, item: Any, field: str, value: list[Any]) -> None:
        try:
            ItemAdapter(item)[field] = value
        except KeyError:
            if value and field not in self._fields_missed:
                self._fields_missed.add(field)
                logger.error(  # noqa: TRY400 - a traceback would not help
                    "%s has no field %r for its results: declare it, or name another in the "
                    "settings", type(item).__name__, field, extra={"spider": self.crawler.spider},
                )  # fmt: skip


class ImgCachePipeline(CachedMediaPipeline):
    """Items with `image_urls` get `images`, kept in the cache alone: a hit moves no bytes.

    `path` is the blob's key, `checksum` the content hash. A request that keeps the cache out
    (`imgcache` False, `dont_cache`) is fetched anew, and stored: there is no other place for it.
    """

    def __init__(self, *, crawler: "Crawler") -> None:
        super().__init__(crawler=crawler)
        settings = self.crawl.settings
        if not settings.enabled:
            raise ConfigurationError(
                "IMGCACHE_ENABLED is False, and ImgCachePipeline has nowhere else to put images: "
                "take it out of ITEM_PIPELINES, or use ImgCacheFilesPipeline"
            )
        self.urls_field, self.result_field = settings.urls_field, settings.result_field

    async def deliver_hit(
        self,
        entry: Entry,
        request: Request,
        item: Any,  # noqa: ARG002
    ) -> FileInfo | None:
        """Give the entry; its bytes stay where they are."""
        return self._info(entry, request, "cached")

    async def deliver_fetched(
        self,
        entry: Entry | None,
        response: Response,
        request: Request,
        item: Any,  # noqa: ARG002
    ) -> FileInfo:
        """Give the entry, if the cache took the image."""
        if entry is None:
            raise ImageFailed("store", "the cache did not take the image")
        return self._info(entry, request, _status(entry, response))

    def must_store(self, request: Request) -> bool:
        """Every image goes into the cache: there is no other place for it."""
        return request.method == "GET"

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
        """Refuse: images are delivered from the cache alone."""
        raise NotImplementedError

    def media_failed(self, failure: Failure, request: Request, info: Any) -> NoReturn:  # noqa: ARG002
        """Log why a URL gave no image."""
        level = logging.DEBUG if isinstance(failure.value, IgnoreRequest) else logging.WARNING
        logger.log(
            level, "No image from %s: %s", request.meta.get("imgcache_url", request.url),
            failure.value, extra={"spider": self.crawler.spider},
        )  # fmt: skip
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

    def _info(self, entry: Entry, request: Request, status: str) -> FileInfo:
        settings, width, height = self.crawl.settings, entry["width"], entry["height"]
        request.meta["imgcache_entry"] = entry
        if width is not None and height is not None:  # noqa: SIM102
            if width < settings.min_width or height < settings.min_height:
                least = f"{settings.min_width}x{settings.min_height}"
                raise ImageFailed(
                    "too_small", f"{width}x{height} pixels, not {least}", fate="rejected"
                )
        info: FileInfo = {
            "url": request.url,
            "path": self.file_path(request),
            "checksum": entry["content_hash"],
            "status": status,
        }
        return _with_entry(info, entry)


class _DropIn(CachedMediaPipeline):
    """What the drop-ins share: Scrapy's own pipeline delivers what the cache or the site gave.

    All of Scrapy's settings and hooks hold; a file that is up to date locally needs no lookup.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        is_unset = self.crawler.settings.get("MEDIA_ALLOW_REDIRECTS") is None
        self.follows_redirects = self.allow_redirects or is_unset

    async def deliver_hit(self, entry: Entry, request: Request, item: Any) -> FileInfo | None:
        """Have Scrapy's pipeline write the files of a response made from the cache."""
        with await self.crawl.enter(entry["file_size_bytes"]):
            body = await self.crawl.read(entry)
            if body is None:
                return None
            response = cached_response(request, entry, body)
            return _with_entry(await self._written(response, request, item), entry)

    async def deliver_fetched(
        self, entry: Entry | None, response: Response, request: Request, item: Any
    ) -> FileInfo:
        """Have Scrapy's pipeline write the files of the site's response."""
        if entry is None:
            return await self._written(response, request, item)
        request.meta["imgcache_entry"] = entry
        info = await self._written(response, request, item)
        return _with_entry({**info, "status": _status(entry, response)}, entry)

    async def _written(self, response: Response, request: Request, item: Any) -> FileInfo:
        # Scrapy's pipelines take a 200 alone.
        whole = response.replace(status=200)
        try:
            return await ensure_awaitable(
                self.media_downloaded(whole, request, self.spiderinfo, item=item)
            )
        except ImageException as error:
            raise ImageFailed("too_small", str(error), fate="rejected") from error
        except Exception as error:
            raise ImageFailed("processing", str(error)) from error


class ImgCacheFilesPipeline(_DropIn, FilesPipeline):
    """Scrapy's FilesPipeline with the cache in front: original bytes in `FILES_STORE`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.urls_field, self.result_field = self.files_urls_field, self.files_result_field


class ImgCacheImagesPipeline(_DropIn, ImagesPipeline):
    """Scrapy's ImagesPipeline with the cache in front: JPEG and thumbnails in `IMAGES_STORE`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.urls_field, self.result_field = self.images_urls_field, self.images_result_field


def _request(url: object) -> Request:
    try:
        return Request(fetchable(url), callback=NO_CALLBACK, meta={"imgcache_url": url})
    except (InvalidRequestError, ValueError) as error:
        meta = {"imgcache_url": url, "imgcache_bad_url": str(error)}
        return Request("about:invalid", callback=NO_CALLBACK, meta=meta)


def _admit(response: Response) -> None:
    """Let an image pass.

    Raises:
        ImageFailed: it is none, or not whole.
    """
    status = response.status
    if status not in ACCEPTED_STATUSES:
        raise ImageFailed(f"http_{status}", f"the site answered {status}", http_status=status)
    reason = refusal_of(response)
    if reason is not None:
        raise ImageFailed(reason, MESSAGES[reason], fate="rejected", http_status=status)


def _failed(error: Exception) -> ImageFailed:
    """Make of any error one that can be kept for a whole crawl: without the frames it saw."""
    if isinstance(error, ImageFailed):
        return ImageFailed(error.reason, str(error), fate=error.fate, http_status=error.http_status)
    for kind, (reason, fate) in _DOWNLOAD_FAILURES.items():
        if isinstance(error, kind):
            return ImageFailed(reason, str(error), fate=fate)
    return ImageFailed("download", f"{type(error).__name__}: {error}")


def _failures(requests: list[Request], results: list[FileInfoOrError]) -> list[dict[str, Any]]:
    return [
        {
            "url": request.meta.get("imgcache_url", request.url),
            "reason": result.value.reason,
            "http_status": result.value.http_status,
        }
        for request, (_, result) in zip(requests, results, strict=True)
        if isinstance(result, Failure) and isinstance(result.value, ImageFailed)
    ]


def _status(entry: Entry, response: Response) -> str:
    if is_from_cache(response):
        return "cached"
    return "downloaded" if entry["created"] else "duplicate"


def _with_entry(info: FileInfo, entry: Entry) -> FileInfo:
    beside = {"url", "created", *info}
    more = {name: value for name, value in entry.items() if name not in beside}
    return cast("FileInfo", {**info, **more})
