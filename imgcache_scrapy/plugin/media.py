"""CachedMediaPipeline: the base of all pipelines; it puts the cache in front of downloads."""

from abc import abstractmethod
from collections.abc import Callable, Coroutine
from functools import partial
from typing import TYPE_CHECKING, Any, Self, cast

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

from imgcache_scrapy.core.concurrency import SingleFlight
from imgcache_scrapy.core.entry import Entry
from imgcache_scrapy.core.errors import ConfigurationError, InvalidRequestError
from imgcache_scrapy.core.urls import cache_key, data_key
from imgcache_scrapy.plugin import meta
from imgcache_scrapy.plugin.flow import Flow, bypasses_cache
from imgcache_scrapy.plugin.item_requests import bad_url_reason, item_request, item_url
from imgcache_scrapy.plugin.log import SpiderLogger
from imgcache_scrapy.plugin.outcome import ImageFailed, Outcome
from imgcache_scrapy.plugin.reservation import Reservation, never_wait
from imgcache_scrapy.plugin.session import require_asyncio

if TYPE_CHECKING:
    from scrapy.crawler import Crawler

# Number of results and failures to remember, so that a URL in many items is fetched once.
REMEMBERED_RESULTS = 2_000

_REDIRECTS_FOLLOWED = SequenceExclude(range(300, 400))


class CachedMediaPipeline(MediaPipeline):
    """Gets an item's images: looks each one up, fetches and stores a missing one, delivers it.

    It calls the same hooks as Scrapy's own pipelines: `get_media_requests`, `media_to_download`,
    `media_downloaded`, `media_failed`, `item_completed`. Each URL is processed once in a crawl,
    and each item gets its own copy of the results.

    Raises:
        ConfigurationError: the pipeline cannot work. Scrapy would otherwise disable it silently,
            and items would leave without their images.
    """

    urls_field: str
    result_field: str
    # Whether `deliver` needs the bytes of a hit.
    needs_bytes = True
    # Whether every image is stored, even if a request bypasses the cache.
    must_store = False
    follows_redirects = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.flow = Flow.of(self.crawler)
        self.session = self.flow.session
        self.log = SpiderLogger(__name__, self.crawler)
        self._results: SingleFlight[str, FileInfo | ImageFailed] = SingleFlight(
            max_results=REMEMBERED_RESULTS
        )
        self._missing_fields: set[str] = set()
        if self.session.settings.enabled:
            require_asyncio()
            _ = self.session.client

    @classmethod
    def from_crawler(cls, crawler: "Crawler") -> Self:
        """Create the pipeline of a crawl."""
        try:
            return super().from_crawler(crawler)
        except NotConfigured as error:
            raise ConfigurationError(f"{cls.__name__} cannot work: {error}") from error

    async def process_item(self, item: Any, spider: Spider | None = None) -> Any:  # noqa: ARG002
        """Add the images to an item; return it when each image is stored or has failed."""
        if not self.session.settings.enabled:
            return await super().process_item(item)
        requests: list[Request] = list(arg_to_iter(self.get_media_requests(item, self.spiderinfo)))
        callers = [(item_url(request), request.errback) for request in requests]
        for request in requests:
            request.errback, request.callback = None, NO_CALLBACK
        found = await self._results.do_all(self._job(request, item) for request in requests)
        results = [_result(result, *each) for result, each in zip(found, callers, strict=True)]
        field = self.session.settings.failures_field
        if field and requests:
            before = ItemAdapter(item).get(field) or []
            self._put(item, field, [*before, *_failures([url for url, _ in callers], results)])
        return self.item_completed(results, item, self.spiderinfo)

    def get_media_requests(self, item: Any, info: MediaPipeline.SpiderInfo) -> list[Request]:
        """Create one request per URL of the item; the request of a bad URL will fail.

        Override this hook to add headers, a referer, cookies or meta to the requests.
        """
        if not self.session.settings.enabled:
            return super().get_media_requests(item, info)  # type: ignore[safe-super]
        urls = ItemAdapter(item).get(self.urls_field) or []
        if not isinstance(urls, (list, tuple)):
            raise TypeError(f"{self.urls_field} must be a list of URLs, got {type(urls).__name__}")
        return [item_request(url) for url in urls]

    def item_completed(
        self, results: list[FileInfoOrError], item: Any, info: MediaPipeline.SpiderInfo
    ) -> Any:
        """Put the successful results into the item, in the order of its URLs."""
        if not self.session.settings.enabled:
            return super().item_completed(results, item, info)
        self._put(item, self.result_field, [found for ok, found in results if ok])
        return item

    @abstractmethod
    async def deliver(self, outcome: Outcome, request: Request, item: Any) -> FileInfo:
        """Return the result of an image.

        Raises:
            ImageFailed: there is no image.
        """

    def _job(
        self, request: Request, item: Any
    ) -> tuple[str, Callable[[], Coroutine[Any, Any, FileInfo | ImageFailed]]]:
        """Return the key of a request's image, and the function that gets the image."""
        problem = bad_url_reason(request)
        try:
            key = f"{request.url} {item_url(request)}" if problem else self._key(request)
        except InvalidRequestError as error:
            key, problem = request.url, str(error)
        return key, partial(self._result_of, key, problem, request, item)

    async def _result_of(
        self, key: str, problem: str | None, request: Request, item: Any
    ) -> FileInfo | ImageFailed:
        try:
            if problem is not None:
                raise ImageFailed("bad_url", problem)  # noqa: TRY301 - reported like every failure
            outcome, result = await self._process(key, request, item)
        except Exception as error:
            failure = ImageFailed.of(error)
            self._report(error, request)
            self.session.tally.count(key, Outcome.failed(failure))
            return failure
        self.session.tally.count(key, outcome)
        return result

    def _report(self, error: Exception, request: Request) -> None:
        """Call the hook that logs a failure; the hook always raises."""
        try:
            self.media_failed(Failure(error), request, self.spiderinfo)
        except Exception:
            return

    async def _process(self, key: str, request: Request, item: Any) -> tuple[Outcome, FileInfo]:
        local = await ensure_awaitable(self.media_to_download(request, self.spiderinfo, item=item))
        if local:
            return Outcome("hit"), cast("FileInfo", local)
        with self.flow.reservation(counts_as_download=True) as reservation:
            outcome = await self._find_or_fetch(key, request, reservation)
            reservation.release_lock()
            never_wait()  # The hooks may request more images.
            return outcome, await self.deliver(outcome, request, item)

    async def _find_or_fetch(self, key: str, request: Request, reservation: Reservation) -> Outcome:
        """Find an image in the cache, or fetch and keep it."""
        await reservation.acquire_lock(key)
        bypasses = bypasses_cache(request)
        if not bypasses:
            hit = await self.flow.find(key, request, reservation, reads=self.needs_bytes)
            if hit is not None:
                return hit
        if self.must_store and request.method != "GET":
            raise ImageFailed("not_get", "only responses to GET requests can be cached")
        await reservation.acquire_slot()
        response = await self._fetch(key, request)
        stores = self.must_store or not bypasses
        return await self.flow.keep(key, response, reservation, stores=stores)

    async def _fetch(self, key: str, request: Request) -> Response:
        if request.url.startswith("data:"):
            return Response(request.url, body=parse_data_uri(request.url).data, request=request)
        request.meta.setdefault(meta.ALLOW_OFFSITE, True)
        request.meta[meta.PIPELINE_KEY] = key
        if self.follows_redirects:
            request.meta[meta.STATUSES] = _REDIRECTS_FOLLOWED
        else:
            request.meta[meta.ALL_STATUSES] = True
        return await self.crawler.engine.download_async(request)

    def _key(self, request: Request) -> str:
        """Return the key that identifies the image of a request.

        Raises:
            InvalidRequestError: the URL is not valid.
        """
        if request.method != "GET":
            return self.crawler.request_fingerprinter.fingerprint(request).hex()
        return data_key(request.url) if request.url.startswith("data:") else cache_key(request.url)

    def _put(self, item: Any, field: str, value: list[Any]) -> None:
        try:
            ItemAdapter(item)[field] = value
        except KeyError:
            if value and field not in self._missing_fields:
                self._missing_fields.add(field)
                self.log.error(  # noqa: TRY400 - a traceback would not help
                    "%s has no field %r for its results: declare it, or set another field in the "
                    "settings",
                    type(item).__name__,
                    field,
                )


def with_entry(result: FileInfo, entry: Entry) -> FileInfo:
    """Return a result with Scrapy's keys and the other keys of an entry."""
    excluded = {"url", "created", *result}
    more = {name: value for name, value in entry.items() if name not in excluded}
    return cast("FileInfo", {**result, **more})


def _result(
    found: FileInfo | ImageFailed, url: str, errback: Callable[[Failure], Any] | None
) -> FileInfoOrError:
    """Return a result as Scrapy's hooks expect it; each item gets its own copy."""
    if not isinstance(found, ImageFailed):
        return True, cast("FileInfo", {**found, "url": url})
    try:
        if errback is not None:
            return True, errback(Failure(found))
    except Exception:
        return False, Failure()
    return False, Failure(found)


def _failures(urls: list[str], results: list[FileInfoOrError]) -> list[dict[str, Any]]:
    return [
        {"url": url, "reason": result.value.reason, "http_status": result.value.http_status}
        for url, (_, result) in zip(urls, results, strict=True)
        if isinstance(result, Failure) and isinstance(result.value, ImageFailed)
    ]
