"""ImgCacheMiddleware: answers image requests from the cache and stores fetched images."""

from contextlib import ExitStack
from itertools import count
from typing import TYPE_CHECKING, Self
from weakref import WeakValueDictionary

from scrapy import Request
from scrapy.exceptions import NotConfigured
from scrapy.http import Response
from scrapy.http.request import NO_CALLBACK

from imgcache_scrapy.core.errors import ConfigurationError, ImgCacheError, InvalidRequestError
from imgcache_scrapy.core.formats import has_image_suffix
from imgcache_scrapy.core.image_url import ImageUrl
from imgcache_scrapy.core.urls import is_data_url, request_url
from imgcache_scrapy.plugin import meta
from imgcache_scrapy.plugin.chain import continue_chain, first_url_of, is_in_chain
from imgcache_scrapy.plugin.conditional import forget_stale, remember_stale, repeated
from imgcache_scrapy.plugin.fetch import Fetch
from imgcache_scrapy.plugin.flow import Flow
from imgcache_scrapy.plugin.keys import KeyFunctionError
from imgcache_scrapy.plugin.known_failures import note_failure
from imgcache_scrapy.plugin.log import SpiderLogger
from imgcache_scrapy.plugin.outcome import (
    ImageFailed,
    ImageWithheld,
    OfflineError,
    Outcome,
    status_error,
)
from imgcache_scrapy.plugin.reservation import Reservation
from imgcache_scrapy.plugin.responses import is_from_cache
from imgcache_scrapy.plugin.retries import Retries

if TYPE_CHECKING:
    from scrapy.crawler import Crawler

_DROPPED = Outcome.failed(ImageFailed("filtered", "the request or its response was dropped"))


class ImgCacheMiddleware:
    """Puts the cache in front of all image requests, also those of Scrapy's ImagesPipeline.

    A request is for an image if a media pipeline made it or if its URL ends like an image's.
    `request.meta["imgcache"]` overrides this: True forces the cache, False forbids it;
    `dont_cache` forbids it too. A hit has the flags `cached` and `imgcache`. After a hit or a
    store, `response.meta["imgcache_entry"]` is the entry. Use the order 585: there, responses are
    already decompressed and redirects already followed. Each URL of an image request has one fate
    in the stats; if it is answered with a page, for example, it is `rejected/html`.

    Raises:
        ConfigurationError: a setting is wrong.
        NotConfigured: the cache is switched off or cannot work; Scrapy then fetches all images.
    """

    def __init__(self, crawler: "Crawler") -> None:
        self._flow = Flow.of(crawler)
        session = self._flow.session
        self._tally = session.tally
        self._log = SpiderLogger(__name__, crawler)
        if not session.settings.enabled:
            raise NotConfigured("IMGCACHE_ENABLED is False")
        try:
            _ = session.client
        except ConfigurationError as error:
            raise NotConfigured(str(error)) from error
        self._retries = Retries(crawler)
        self._numbers = count()
        self._reservations: WeakValueDictionary[int, Reservation] = WeakValueDictionary()

    @classmethod
    def from_crawler(cls, crawler: "Crawler") -> Self:
        """Create the middleware of a crawl."""
        return cls(crawler)

    async def process_request(self, request: Request) -> Response | None:
        """Answer a request from the cache, or let Scrapy send it."""
        url = self._url_to_look_up(request)
        if url is None:
            return None
        request.meta.pop(meta.ENTRY, None)
        first_url = first_url_of(request, url.url)
        continue_chain(request, first_url)
        if not _is_from_pipeline(request):
            # Other components may drop the request, or its response, and no hook is called.
            self._tally.count_later(first_url, _DROPPED)
        elif meta.VALIDATORS in request.meta:
            return None  # The pipeline asks the site whether its image has changed.
        if _is_from_pipeline(request):
            return await self._find(url, request)
        if reserved := self._reservation(request):
            # A redirect or a retry must not wait for itself: this is held until the end.
            reserved.release_after_download()
            return await self._find(url, request)
        with ExitStack() as stack:
            reservation = stack.enter_context(self._flow.reservation())
            await reservation.acquire_lock(url.key)
            response = await self._find(url, request)
            if response is None:
                if self._flow.session.settings.freshness.mode == "offline":
                    raise OfflineError
                await reservation.acquire_slot()
                self._register(request, reservation)
                stack.pop_all()
        return response

    async def process_response(self, request: Request, response: Response) -> Response | Request:
        """Store a fetched image under the URL of the first request, before any redirect.

        If the image is stale and the site gave no good one, the stale image is returned.
        """
        url = self._url_to_look_up(request)
        if url is None or _is_from_pipeline(request):
            return response
        first_url = first_url_of(request, url.url)
        try:
            is_hit = first_url == url.url or _is_stale_hit(request)
            if not is_from_cache(response) or not is_hit:
                return await self._settle(first_url, request, response)
        except (ImgCacheError, ImageWithheld) as error:  # in strict mode, or the image is blocked
            self._tally.count(first_url, Outcome.failed(ImageFailed.of(error)))
            raise
        except Exception:
            self._log.exception("The image cache could not process %s", response)
        finally:
            self._release(request)
        return response

    async def process_exception(self, request: Request, exception: Exception) -> Response | None:
        """Return the stale image if there is one, because there is no response."""
        try:
            if isinstance(exception, KeyFunctionError):
                self._tally.count(request_url(request.url), Outcome.failed(exception))
                return None
            url = self._url_to_look_up(request)
            if url is None or _is_from_pipeline(request):
                return None
            first_url, failure = first_url_of(request, url.url), ImageFailed.of(exception)
            outcome = await self._fallback(first_url, request, exception, failure)
            if outcome is None:
                self._tally.count_later(first_url, Outcome.failed(failure))
                self._note_failure(first_url, request, failure)
                return None
            self._note(first_url, request, outcome)
            return outcome.response
        finally:
            self._release(request)

    async def _settle(self, url: str, request: Request, response: Response) -> Response | Request:
        """Decide what a response of the site means, and return what the spider gets."""
        error = status_error(response)
        if error is not None and self._waits_for_retry(request, response):
            self._tally.count_later(url, Outcome.failed(error))
            return response
        outcome = await self._fetch(url, request).outcome(
            request, response, self._reservation(request)
        )
        if outcome is None:
            return repeated(request)
        self._note(url, request, outcome)
        if outcome.error is not None:
            self._note_failure(url, request, outcome.error, outcome.response)
        return response if outcome.response is None else outcome.response

    async def _fallback(
        self, url: str, request: Request, exception: Exception, failure: ImageFailed
    ) -> Outcome | None:
        is_ours = isinstance(exception, (ImgCacheError, OfflineError))
        if is_ours or self._waits_for_retry(request, exception):
            return None
        fetch = self._fetch(url, request)
        outcome = await fetch.fallback(request, failure, self._reservation(request))
        forget_stale(request)
        return outcome

    def _waits_for_retry(self, request: Request, result: Response | Exception) -> bool:
        """Return whether the stale image must wait, because Scrapy will try once more."""
        return meta.STALE in request.meta and self._retries.will_follow(request, result)

    def _fetch(self, url: str, request: Request) -> Fetch:
        return Fetch(
            self._flow,
            self._flow.image_url(request, url),
            request.meta.get(meta.STALE),
            is_repeated=meta.REPEATED in request.meta,
        )

    def _note(self, url: str, request: Request, outcome: Outcome) -> None:
        """Count the outcome of a URL, and tell the spider about it."""
        forget_stale(request)
        if outcome.entry is not None:
            request.meta[meta.ENTRY] = outcome.entry
        # Scrapy may send the request of a failure again.
        (self._tally.count if outcome.is_image else self._tally.count_later)(url, outcome)

    def _note_failure(
        self, url: str, request: Request, failure: ImageFailed, response: Response | None = None
    ) -> None:
        image_url = self._flow.image_url(request, url)
        note_failure(self._flow.session, image_url, request, failure, response)

    def _url_to_look_up(self, request: Request) -> ImageUrl | None:
        """Return the URL to look up; None if the request does not use the cache."""
        if is_data_url(request.url) or not _is_image_request(request):
            return None
        if self._flow.session.bypass.applies(request):
            return None
        try:
            url = self._flow.image_url(request)
        except InvalidRequestError as error:
            self._flow.session.bypass.tell(request, error)
            return None
        return None if request.meta.get(meta.PIPELINE_URL) == url.url else url

    async def _find(self, url: ImageUrl, request: Request) -> Response | None:
        try:
            # Without a slot: a hit must not wait for downloads.
            asked = request.meta.get(meta.PIPELINE_URL) or first_url_of(request, url.url)
            found = await self._flow.find(url, request, asked=asked)
        except (ImgCacheError, ImageWithheld):  # in strict mode, or the image is blocked
            raise
        except Exception:
            self._log.exception("The image cache could not answer %s", request)
            return None
        is_first = not _is_from_pipeline(request) and first_url_of(request, url.url) == url.url
        if found.hit is None:
            if is_first:
                remember_stale(request, found.stale)
            return None
        if is_first:
            forget_stale(request)
            self._tally.count(url.url, found.hit)
        return found.hit.response

    def _reservation(self, request: Request) -> Reservation | None:
        return self._reservations.get(request.meta.get(meta.RESERVATION, -1))

    def _register(self, request: Request, reservation: Reservation) -> None:
        # A number, because meta is copied to other requests and written to disk.
        number = request.meta[meta.RESERVATION] = next(self._numbers)
        self._reservations[number] = reservation
        # Scrapy may drop a request, or its response, without calling any hook.
        reservation.release_with(request)
        reservation.release_after_download()

    def _release(self, request: Request) -> None:
        reservation = self._reservations.pop(request.meta.get(meta.RESERVATION, -1), None)
        if reservation is not None:
            reservation.release()


def _is_from_pipeline(request: Request) -> bool:
    """Return whether one of our pipelines made this request."""
    return meta.PIPELINE_URL in request.meta


def _is_stale_hit(request: Request) -> bool:
    """Return whether the stale image was returned after an error."""
    return bool((request.meta.get(meta.ENTRY) or {}).get("stale"))


def _is_image_request(request: Request) -> bool:
    # A redirect may lead to a URL that does not end like an image's.
    if request.meta.get(meta.CACHE) or is_in_chain(request):
        return True
    # Requests for robots.txt have no callback either, but they do not set these keys.
    handles_statuses = {meta.ALL_STATUSES, meta.STATUSES} & request.meta.keys()
    is_media = request.callback is NO_CALLBACK and bool(handles_statuses)
    return is_media or has_image_suffix(request.url)
