"""Fetch: gets one image from its site, which may say that the stale one is still good."""

import logging
from collections.abc import Awaitable, Callable

from scrapy import Request
from scrapy.http import Response

from imgcache_scrapy.core.entry import Entry, content_hash_of
from imgcache_scrapy.core.image_url import ImageUrl
from imgcache_scrapy.core.response_info import ResponseInfo
from imgcache_scrapy.core.revalidation import (
    NOT_MODIFIED,
    as_changed,
    as_stale,
    confirms,
    renewed_headers,
)
from imgcache_scrapy.plugin import conditional
from imgcache_scrapy.plugin.flow import Flow
from imgcache_scrapy.plugin.known_failures import note_failure
from imgcache_scrapy.plugin.outcome import Fate, ImageFailed, ImageWithheld, Outcome
from imgcache_scrapy.plugin.reservation import Reservation
from imgcache_scrapy.plugin.responses import (
    as_cached,
    cached_response,
    is_from_cache,
    response_info,
)


class Fetch:
    """Gets one image that is not in the cache, or is too old there.

    Args:
        flow: the flow of the crawl.
        url: the URL that is asked for.
        stale: the entry of the image that is too old; None if there is none.
        reads: whether an image from the cache is delivered with its bytes.
        is_repeated: whether the site is asked for the second time, without validators.
    """

    def __init__(
        self,
        flow: Flow,
        url: ImageUrl,
        stale: Entry | None = None,
        *,
        reads: bool = True,
        is_repeated: bool = False,
    ) -> None:
        self._flow = flow
        self._url = url
        self._stale = stale
        self._reads = reads
        self._is_repeated = is_repeated
        self._is_lost = False

    async def run(
        self,
        request: Request,
        reservation: Reservation,
        send: Callable[[], Awaitable[Response]],
        *,
        stores: bool = True,
    ) -> Outcome:
        """Ask the site for the image, and once more without validators if that was of no use.

        Args:
            request: the request.
            reservation: the image's, with a slot.
            send: sends the request and returns the response.
            stores: False if the image must not be stored.

        Raises:
            Exception: the site gave no response, and there is no image in the cache.
        """
        if self._stale is not None:
            conditional.add_validators(request, self._stale)
        try:
            outcome = await self._attempt(request, reservation, send, stores=stores)
        finally:
            conditional.remove_validators(request)
        if outcome is not None:
            return outcome
        self._is_repeated = True
        conditional.forbid_http_cache(request)
        try:
            outcome = await self._attempt(request, reservation, send, stores=stores)
        finally:
            conditional.allow_http_cache(request)
        assert outcome is not None  # noqa: S101 - it is repeated once
        return outcome

    async def _attempt(
        self,
        request: Request,
        reservation: Reservation,
        send: Callable[[], Awaitable[Response]],
        *,
        stores: bool,
    ) -> Outcome | None:
        try:
            response = await send()
        except Exception as error:
            failure = ImageFailed.of(error)
            note_failure(self._flow.session, self._url, request, failure)
            outcome = await self.fallback(request, failure, reservation)
            if outcome is None:
                raise
            return outcome
        return await self.outcome(request, response, reservation, stores=stores)

    async def outcome(
        self,
        request: Request,
        response: Response,
        reservation: Reservation | None,
        *,
        stores: bool = True,
    ) -> Outcome | None:
        """Decide what a response means, and store the image or renew its capture.

        Args:
            request: the request.
            response: the response of the site.
            reservation: the image's.
            stores: False if the image must not be stored.

        Returns:
            The outcome; None if the request must be repeated without validators.

        Raises:
            ImageWithheld: the image is blocked.
            ImgCacheError: the cache failed, and `IMGCACHE_STRICT` is set.
        """
        is_ours = not conditional.is_conditional_by_user(request)
        if response.status == NOT_MODIFIED and is_ours and not self._is_repeated:
            return await self._not_modified(request, response, reservation)
        try:
            outcome = await self._flow.keep(
                self._url, request, response, reservation, stores=stores
            )
        except ImageWithheld as error:
            stale = await self.fallback(request, ImageFailed.of(error), reservation)
            if stale is None:
                raise
            return stale
        outcome = await self._compared(request, outcome, reservation)
        if outcome.entry is not None:
            self._flow.note_asked(self._url, request, outcome.entry)
        return outcome

    async def fallback(
        self, request: Request, error: ImageFailed, reservation: Reservation | None
    ) -> Outcome | None:
        """Deliver the stale image, because the site gave no good one.

        Args:
            request: the request.
            error: what the site gave instead.
            reservation: the image's.

        Returns:
            The outcome; None if there is no stale image.
        """
        if self._stale is None or self._is_lost:
            return None
        outcome = await self._deliver("hit", request, as_stale(self._stale), reservation)
        if outcome is not None and outcome.entry is not None:
            self._flow.note_asked(self._url, request, outcome.entry)
            self._flow.session.log.log(
                logging.INFO,
                "The site gave no new picture for %.200s, the stale one is used: %s",
                self._url.url,
                error,
            )
        return outcome

    async def _not_modified(
        self, request: Request, response: Response, reservation: Reservation | None
    ) -> Outcome | None:
        entry, key_of = self._stale, self._flow.session.settings.key_of
        if entry is None or not conditional.has_validators(request):
            return None
        if not confirms(entry, self._url, response.url, key_of):
            return None
        renewed = await self._renew(entry, request, response)
        if renewed is None:
            self._is_lost = True
            return None
        self._flow.note_asked(self._url, request, renewed)
        return await self._deliver("revalidated", request, renewed, reservation)

    async def _renew(self, entry: Entry, request: Request, response: Response) -> Entry | None:
        """Record that the site still has the image of an entry; None if its bytes are lost."""
        url, session = self._url, self._flow.session
        accept = self._flow.accept_of(request)
        said = response_info(url.url, response, accept)
        headers = renewed_headers(entry, said.headers)
        info = ResponseInfo.of(url.url, headers, said.final_url, accept)
        return await session.resilient_client.renew(url, entry, session.client_name, info)

    async def _deliver(
        self, fate: Fate, request: Request, entry: Entry, reservation: Reservation | None
    ) -> Outcome | None:
        """Return the outcome of an image in the cache; None if its bytes cannot be read."""
        if not self._reads:
            return Outcome(fate, entry)
        body = await self._flow.read(entry, reservation)
        if body is None:
            return None
        return Outcome(fate, entry, cached_response(request, entry, body))

    async def _compared(
        self, request: Request, outcome: Outcome, reservation: Reservation | None
    ) -> Outcome:
        """Compare what came with the stale image, and deliver this one if nothing good came."""
        stale, response, error = self._stale, outcome.response, outcome.error
        if stale is None or response is None:
            return outcome
        if error is None:
            return _compared_stored(stale, response, outcome)
        if error.is_not_stored and content_hash_of(response.body) == stale["content_hash"]:
            return Outcome.revalidated(stale, as_cached(response))
        must_fail = self._flow.session.settings.freshness.fails(response.status)
        if must_fail or (error.is_not_stored and self._reads):
            return outcome
        return await self.fallback(request, error, reservation) or outcome


def _compared_stored(stale: Entry, response: Response, outcome: Outcome) -> Outcome:
    entry = outcome.entry
    assert entry is not None  # noqa: S101 - it was stored or spooled
    if entry["content_hash"] != stale["content_hash"]:
        if stale.get("converted"):
            return outcome  # The site never sent those bytes: nothing says that it changed.
        return outcome._replace(entry=as_changed(entry, stale))
    if is_from_cache(response):
        return outcome
    # An entry from the spool knows less of the image.
    return Outcome.revalidated(stale if outcome.fate == "spooled" else entry, as_cached(response))
