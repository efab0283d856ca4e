"""ImageSource: gets the images of one pipeline from the cache or the site, and counts them."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from itemadapter import ItemAdapter
from scrapy import Request, signals
from scrapy.exceptions import DontCloseSpider
from scrapy.http import Response
from scrapy.pipelines.images import ImageException
from scrapy.pipelines.media import MediaPipeline
from scrapy.utils.defer import ensure_awaitable
from twisted.python.failure import Failure

from imgcache_scrapy.core.admission import ACCEPTED_STATUSES
from imgcache_scrapy.core.errors import InvalidRequestError
from imgcache_scrapy.core.image_url import ImageUrl
from imgcache_scrapy.core.urls import data_body, is_data_url, request_url
from imgcache_scrapy.plugin import blame, meta
from imgcache_scrapy.plugin.fetch import Fetch
from imgcache_scrapy.plugin.flow import Flow, Found
from imgcache_scrapy.plugin.item_requests import bad_url_reason, item_url
from imgcache_scrapy.plugin.item_results import ItemResults, current_results
from imgcache_scrapy.plugin.known_failures import note_bad_answer
from imgcache_scrapy.plugin.local_files import date_file, expiry
from imgcache_scrapy.plugin.log import SpiderLogger
from imgcache_scrapy.plugin.outcome import ImageFailed, OfflineError, Outcome
from imgcache_scrapy.plugin.recent import RecentResults
from imgcache_scrapy.plugin.reservation import Reservation, never_wait
from imgcache_scrapy.plugin.results import with_entry
from imgcache_scrapy.plugin.session import require_asyncio
from imgcache_scrapy.plugin.uses import UseNotes

# Number of results and failures to remember, so that a URL in many items is fetched once.
REMEMBERED_RESULTS = 2_000

# Scrapy's pipelines hash and write files in the event loop. Files of this size get one turn of the
# loop each, so that other tasks run between them.
_LARGE_BODY = 2**20

_FILE_EXCEPTION = ImageException.__mro__[1]  # Its module depends on the version of Scrapy.


class ImageSource:
    """Gets the images of one pipeline from the cache or the site.

    Args:
        pipeline: the pipeline; its hook `media_downloaded` gets the responses.

    Attributes:
        needs_bytes: whether the bytes of a hit are read.
        must_store: whether every image is stored, even if a request bypasses the cache.
        uses: notes which items used which images; None if that is not wanted.
    """

    needs_bytes = True
    must_store = False

    def __init__(self, pipeline: MediaPipeline) -> None:
        crawler = pipeline.crawler
        self.pipeline = pipeline
        self.flow = Flow.of(crawler)
        self.settings = self.flow.session.settings
        self._bypass = self.flow.session.bypass
        self.is_enabled = self.settings.enabled
        self.log = SpiderLogger(__name__, crawler)
        fields = self.settings.provenance
        self.uses = None if fields is None else UseNotes(crawler, fields, self.image_url)
        self._recent = RecentResults(max_results=REMEMBERED_RESULTS)
        self._outcomes: dict[bytes, Outcome] = {}
        self._missing_fields: set[str] = set()
        self._items = 0
        self._large_bodies = asyncio.Lock()
        if self.is_enabled:
            require_asyncio()
            _ = self.flow.session.client
            crawler.signals.connect(self._stay_open, signals.spider_idle)

    @contextmanager
    def processing(self, item: Any) -> Iterator[ItemResults]:
        """Process an item in a block: the spider stays open, and the results are collected."""
        results = ItemResults(item, self.settings, self.put)
        previous = current_results.set(results)
        self._items += 1
        try:
            yield results
        finally:
            self._items -= 1
            current_results.reset(previous)
            results.close()

    def begin(self, request: Request, item: Any, index: int) -> None:
        """Do nothing; called for the requests of an item in their order.

        Args:
            request: the request.
            item: its item.
            index: its position in the item, from 1.
        """

    @contextmanager
    def counting(
        self,
        request: Request,
        info: MediaPipeline.SpiderInfo,
        fail: Callable[[ImageFailed], None],
    ) -> Iterator[None]:
        """Process a request in a block, count its outcome, and call `fail` if it fails."""
        key = self._fingerprint(request)
        with self._recent.use(key, info.downloaded, self._outcomes):
            try:
                yield
            except Exception as error:
                fail(self._outcome(key, info).error or blame.hook_failure(error))
                raise
            finally:
                self.count(request, self._outcome(key, info))

    def count(self, request: Request, outcome: Outcome) -> None:
        """Count the fate of a request's URL."""
        self.flow.session.tally.count(self.url_key(request), outcome)

    async def result(self, request: Request, info: MediaPipeline.SpiderInfo, item: Any) -> Any:
        """Find the image of a request, or fetch and keep it, and return its result.

        Raises:
            Exception: there is no result.
        """
        self._outcomes.pop(self._fingerprint(request), None)
        with self.flow.reservation(counts_as_download=True) as reservation:
            outcome = await self._find_or_fetch(request, reservation)
            self._remember(request, outcome)
            reservation.release_lock()
            never_wait()  # The hooks may request more images.
            try:
                return await self.deliver(outcome, request, info, item)
            except Exception as error:
                # Not before the hooks, which may accept any answer.
                note_bad_answer(self.flow.session, self.image_url, request, outcome)
                refusal = None if outcome.is_image else outcome.error
                failure = blame.processing_failure(error, refusal, type(self.pipeline))
                self._remember(request, Outcome.failed(failure))
                raise

    async def deliver(
        self, outcome: Outcome, request: Request, info: MediaPipeline.SpiderInfo, item: Any
    ) -> Any:
        """Let the pipeline process the response, also one that the cache refused."""
        response = outcome.response
        assert response is not None  # noqa: S101 - see needs_bytes
        if outcome.entry is not None:
            request.meta[meta.ENTRY] = outcome.entry
            if response.request is not None:  # Another one, after a redirect.
                response.meta[meta.ENTRY] = outcome.entry
        if response.status != 200 and response.status in ACCEPTED_STATUSES:  # noqa: PLR2004
            response = response.replace(status=200)  # Scrapy's pipelines accept only 200.
        if len(response.body) > _LARGE_BODY:
            async with self._large_bodies:
                await asyncio.sleep(0)
        result = await ensure_awaitable(
            self.pipeline.media_downloaded(response, request, info, item=item)
        )
        if outcome.fate == "hit" and outcome.entry is not None:
            date_file(self.pipeline, result, outcome.entry)
        return with_entry(result, outcome)

    def note_failure(self, error: Exception, request: Request) -> None:
        """Remember why there is no image, if `result` raised before it could tell."""
        if self.failure(request) is None:
            self._remember(request, Outcome.failed(ImageFailed.of(error)))

    def failure(self, request: Request) -> ImageFailed | None:
        """Return why there is no image, or why it is not in the cache; None if all is well."""
        outcome = self._outcomes.get(self._fingerprint(request))
        return outcome.error if outcome else None

    def is_told(self, raised: Exception, error: Exception, request: Request) -> bool:
        """Return whether the log tells enough about a failure without a traceback.

        Args:
            raised: what the hook `media_failed` raised.
            error: what it was given.
            request: the request that failed.
        """
        failure = self.failure(request)
        if isinstance(raised, _FILE_EXCEPTION) and failure is not None:
            return blame.is_told_in_one_line(failure, error)
        if raised is not error and blame.raised_in_hook(raised, type(self.pipeline)):
            self._remember(request, Outcome.failed(blame.hook_failure(raised)))
        return False

    def put(self, item: Any, field: str, value: list[Any]) -> None:
        """Put a list into an item, or tell once that the item has no field for it."""
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

    def image_url(self, request: Request) -> ImageUrl:
        """Return the URL of a request with its key.

        Raises:
            InvalidRequestError: the URL or the key is not valid.
        """
        if not self._bypass.is_named_by_url(request):
            return ImageUrl.of(request.url, self._request_fingerprint(request))
        return self.flow.image_url(request)

    async def _find_or_fetch(self, request: Request, reservation: Reservation) -> Outcome:
        """Find an image in the cache, or fetch and keep it."""
        problem = bad_url_reason(request)
        if problem is not None:
            raise ImageFailed("bad_url", problem)
        try:
            url = self.image_url(request)
        except InvalidRequestError as error:
            return await self._fetch_without_key(request, str(error))
        await reservation.acquire_lock(url.key)
        found, bypasses = Found(), self._bypass.applies(request)
        if not bypasses:
            age = expiry(self.pipeline)
            found = await self.flow.find(
                url, request, reservation, reads=self.needs_bytes, default_max_age=age
            )
            if found.hit is not None:
                return found.hit
            if self.settings.freshness.mode == "offline" and not is_data_url(request.url):
                raise OfflineError
        if self.must_store and request.method != "GET":
            raise ImageFailed("not_get", "only responses to GET requests can be cached")
        stale = found.stale
        await reservation.acquire_slot(None if stale is None else stale["file_size_bytes"])
        return await Fetch(self.flow, url, stale, reads=self.needs_bytes).run(
            request,
            reservation,
            lambda: self._fetch(url.url, request),
            stores=self.must_store or not bypasses,
        )

    async def _fetch_without_key(self, request: Request, problem: str) -> Outcome:
        if self.must_store or is_data_url(request.url):
            raise ImageFailed("bad_url", problem)
        response = await self._fetch(request.url, request)
        return Outcome.failed(ImageFailed("bad_url", problem, fate="rejected"), response)

    async def _fetch(self, url: str, request: Request) -> Response:
        if is_data_url(request.url):
            return Response(request.url, body=data_body(request.url), request=request)
        request.meta.setdefault(meta.ALLOW_OFFSITE, True)
        request.meta[meta.PIPELINE_URL] = url
        self.pipeline._modify_media_request(request)  # noqa: SLF001
        return await self.pipeline.crawler.engine.download_async(request)

    def _fingerprint(self, request: Request) -> bytes:
        return self.pipeline._fingerprinter.fingerprint(request)  # noqa: SLF001

    def url_key(self, request: Request) -> str:
        """Return what identifies the URL of any request, also of one that has no key."""
        if bad_url_reason(request) is not None:
            return f"{request.url} {item_url(request)}"
        if not self._bypass.is_named_by_url(request):
            return self._request_fingerprint(request)
        try:
            url = request_url(request.url)
        except InvalidRequestError:
            return request.url
        # The user may say that one URL has several images.
        key = request.meta.get(meta.KEY)
        return url if key is None else f"{url} {key}"

    def _request_fingerprint(self, request: Request) -> str:
        return self.pipeline.crawler.request_fingerprinter.fingerprint(request).hex()

    def _remember(self, request: Request, outcome: Outcome) -> None:
        self._outcomes[self._fingerprint(request)] = outcome._replace(response=None)

    def _outcome(self, key: bytes, info: MediaPipeline.SpiderInfo) -> Outcome:
        """Return the outcome of a request whose result Scrapy has."""
        result = info.downloaded.get(key)
        error = result.value if isinstance(result, Failure) else None
        blame.drop_tracebacks(error)
        if key not in self._outcomes:  # The hook `media_to_download` gave the result.
            failed = Outcome.failed(blame.hook_failure(error)) if error is not None else None
            self._outcomes[key] = failed or Outcome("hit")
        return self._outcomes[key]

    def _stay_open(self) -> None:
        # `scrapy parse --pipelines` does not wait for its items.
        if self._items:
            raise DontCloseSpider
