"""The cache in front of a media pipeline: lookup, else fetch, admit and store; then deliver."""

import json
import logging
from abc import abstractmethod
from collections.abc import Callable, Coroutine
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, NamedTuple, Self, cast

from itemadapter import ItemAdapter
from scrapy import Request, Spider
from scrapy.exceptions import NotConfigured
from scrapy.http import Response
from scrapy.http.request import NO_CALLBACK
from scrapy.pipelines.media import FileInfo, FileInfoOrError, MediaPipeline
from scrapy.utils.datatypes import SequenceExclude
from scrapy.utils.defer import ensure_awaitable
from scrapy.utils.misc import arg_to_iter
from twisted.python.failure import Failure
from w3lib.url import parse_data_uri

from imgcache_scrapy.core.entry import Entry
from imgcache_scrapy.core.errors import ConfigurationError, InvalidRequestError
from imgcache_scrapy.core.joining import Once, Place
from imgcache_scrapy.core.urls import cache_key, data_key, fetchable
from imgcache_scrapy.plugin.crawl import Crawl, require_asyncio
from imgcache_scrapy.plugin.failures import ImageFailed, failed, refused
from imgcache_scrapy.plugin.responses import bypasses_cache, cached_response

if TYPE_CHECKING:
    from scrapy.crawler import Crawler

logger = logging.getLogger(__name__)

# Results and failures that are remembered, so that a URL in many items is looked after once.
REMEMBERED = 2_000

_BAD_URL = "about:invalid"
_REDIRECTS_FOLLOWED = SequenceExclude(range(300, 400))


class Obtained(NamedTuple):
    """What came of asking the cache, and then the site, for an image.

    Attributes:
        entry: the cache's, or the spool's, without `created`; None where neither took the image,
            or the cache was kept out.
        response: the cache's or the site's; None where the bytes may stay in the cache.
        is_hit: whether the site was not asked.
        refusal: why the site's response is not to be kept; None where it is.
    """

    entry: Entry | None
    response: Response | None
    is_hit: bool = False
    refusal: ImageFailed | None = None


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
    needs_bytes = True
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
        asked = [(spelling(request), request.errback) for request in requests]
        for request in requests:
            request.errback, request.callback = None, NO_CALLBACK
        outcomes = await self._outcomes.do_all(
            self._image_of(request, item) for request in requests
        )
        results = [_result(found, *each) for found, each in zip(outcomes, asked, strict=True)]
        field = self.crawl.settings.failures_field
        if field and requests:
            told = ItemAdapter(item).get(field) or []
            self._put(item, field, [*told, *_failures([url for url, _ in asked], results)])
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
    async def deliver(self, obtained: Obtained, request: Request, item: Any) -> FileInfo:
        """Give the item its image.

        Raises:
            ImageFailed: there is none to give.
        """

    def must_store(self, request: Request) -> bool:
        """Tell whether what this request fetches goes into the cache."""
        return not bypasses_cache(request)

    def _image_of(
        self, request: Request, item: Any
    ) -> tuple[str, Callable[[], Coroutine[Any, Any, FileInfo | ImageFailed]]]:
        """Name the image that a request is for, and give what looks after it."""
        key, bad_url = self._key(request)
        return key, lambda: self._outcome(key, bad_url, request, item)

    async def _outcome(
        self, key: str, bad_url: str | None, request: Request, item: Any
    ) -> FileInfo | ImageFailed:
        try:
            if bad_url is not None:
                raise ImageFailed("bad_url", bad_url)  # noqa: TRY301 - told like every failure
            return await self._image(key, request, item)
        except Exception as error:
            failure = failed(error)
            self._report(error, request)
        self.crawl.fates.count(key, failure.fate, failure.reason)
        return failure

    def _report(self, error: Exception, request: Request) -> None:
        """Call the hook that logs a failure, and that must raise."""
        try:
            self.media_failed(Failure(error), request, self.spiderinfo)
        except Exception:
            return

    async def _image(self, key: str, request: Request, item: Any) -> FileInfo:
        local = await ensure_awaitable(self.media_to_download(request, self.spiderinfo, item=item))
        if local:
            self.crawl.fates.count(key, "hit")
            return cast("FileInfo", local)
        with ExitStack() as held:
            async with self.crawl.alone(key):
                entry = None if bypasses_cache(request) else await self.crawl.lookup(key)
                if entry is not None and not self.needs_bytes:
                    obtained = Obtained(entry, None, is_hit=True)
                else:
                    held.enter_context(self.crawl.holding_pages_back())
                    place = held.enter_context(await self.crawl.enter(entry))
                    hit = None if entry is None else await self._read(entry, request)
                    obtained = hit or await self._fetched(key, request, place)
            self.crawl.enter_at_once()  # Hooks may ask for more images.
            found = await self.deliver(obtained, request, item)
        self._count(key, obtained, request)
        return found

    async def _read(self, entry: Entry, request: Request) -> Obtained | None:
        body = await self.crawl.read(entry)
        if body is None:
            return None
        return Obtained(entry, cached_response(request, entry, body), is_hit=True)

    async def _fetched(self, key: str, request: Request, place: Place) -> Obtained:
        stores = self.must_store(request)
        response = await self._fetch(key, request)
        place.holds(len(response.body))
        refusal = refused(response)
        if refusal is not None or not stores:
            return Obtained(None, response, refusal=refusal)
        return Obtained(await self.crawl.store(key, response), response)

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

    def _count(self, key: str, obtained: Obtained, request: Request) -> None:
        entry, response, is_hit, refusal = obtained
        if is_hit and entry is not None:
            self.crawl.fates.count(key, "hit", saved=entry["file_size_bytes"])
        elif refusal is not None:
            self.crawl.fates.count(key, refusal.fate, refusal.reason)
        elif response is not None and self.must_store(request):
            self.crawl.fates.count_stored(key, response, entry)

    def _key(self, request: Request) -> tuple[str, str | None]:
        """Name what a request is for, and say why it cannot be asked for, if so."""
        if request.url == _BAD_URL:
            url, reason = json.loads(request.body)
            return f"{_BAD_URL} {url}", reason
        if request.method != "GET":
            return self.crawler.request_fingerprinter.fingerprint(request).hex(), None
        try:
            is_data = request.url.startswith("data:")
            return data_key(request.url) if is_data else cache_key(request.url), None
        except InvalidRequestError as error:
            return request.url, str(error)

    def _put(self, item: Any, field: str, value: list[Any]) -> None:
        try:
            ItemAdapter(item)[field] = value
        except KeyError:
            if value and field not in self._fields_missed:
                self._fields_missed.add(field)
                logger.error(  # noqa: TRY400 - a traceback would not help
                    "%s has no field %r for its results: declare it, or name another in the "
                    "settings",
                    type(item).__name__,
                    field,
                    extra={"spider": self.crawler.spider},
                )


def _request(url: object) -> Request:
    try:
        return Request(fetchable(url), callback=NO_CALLBACK, meta={"imgcache_url": url})
    except (InvalidRequestError, ValueError) as error:
        # In the body, which stays when a hook replaces the meta.
        told = json.dumps([url if isinstance(url, str) else repr(url), str(error)])
        return Request(_BAD_URL, body=told, callback=NO_CALLBACK)


def spelling(request: Request) -> str:
    """Give the URL as the item spelled it."""
    if request.url == _BAD_URL:
        return str(json.loads(request.body)[0])
    return str(request.meta.get("imgcache_url", request.url))


def _result(
    outcome: FileInfo | ImageFailed, url: str, errback: Callable[[Failure], Any] | None
) -> FileInfoOrError:
    """Give what became of an image as Scrapy's hooks know it, each item its own."""
    if not isinstance(outcome, ImageFailed):
        return True, cast("FileInfo", {**outcome, "url": url})
    try:
        if errback is not None:
            return True, errback(Failure(outcome))
    except Exception:
        return False, Failure()
    return False, Failure(outcome)


def _failures(urls: list[str], results: list[FileInfoOrError]) -> list[dict[str, Any]]:
    return [
        {"url": url, "reason": result.value.reason, "http_status": result.value.http_status}
        for url, (_, result) in zip(urls, results, strict=True)
        if isinstance(result, Failure) and isinstance(result.value, ImageFailed)
    ]
