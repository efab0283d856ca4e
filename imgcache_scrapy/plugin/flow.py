"""Flow: finds images in the cache and stores fetched ones, for all components of a crawl."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple
from weakref import WeakKeyDictionary

from scrapy import Request
from scrapy.http import Response

from imgcache_scrapy.client.address import cache_name
from imgcache_scrapy.core.admission import is_picture
from imgcache_scrapy.core.entry import Entry
from imgcache_scrapy.core.errors import REFUSALS, BlockedError, NotFoundError, blocked
from imgcache_scrapy.core.image_url import ImageUrl
from imgcache_scrapy.core.lazy import lazy_property
from imgcache_scrapy.core.revalidation import as_stale
from imgcache_scrapy.plugin import meta
from imgcache_scrapy.plugin.known_failures import known_outcome
from imgcache_scrapy.plugin.lookups import Lookups
from imgcache_scrapy.plugin.memory import MemoryBudget
from imgcache_scrapy.plugin.outcome import (
    ImageFailed,
    Outcome,
    blocked_error,
    blocked_url_error,
    refusal_error,
    status_error,
)
from imgcache_scrapy.plugin.recent import REMEMBERED_KEYS, RecentKeys
from imgcache_scrapy.plugin.reservation import KeyLocks, Reservation
from imgcache_scrapy.plugin.responses import cached_response, is_from_cache, response_info
from imgcache_scrapy.plugin.session import Session

if TYPE_CHECKING:
    from scrapy.crawler import Crawler


class Found(NamedTuple):
    """What the cache has of a URL.

    Attributes:
        hit: the outcome if the image can be used as it is, or if a failure is remembered.
        stale: the entry of an image that is too old: the site must be asked first.
    """

    hit: Outcome | None = None
    stale: Entry | None = None


class Flow:
    """Finds and keeps images for the pipelines and the middleware of one crawl.

    Args:
        session: the session of the crawl.

    Attributes:
        session: the session of the crawl.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self._budget = MemoryBudget()
        # Whether the stale image was delivered, for each URL that the site was asked for.
        self._revalidated = RecentKeys[bool](minimum=REMEMBERED_KEYS)

    @classmethod
    def of(cls, crawler: "Crawler") -> "Flow":
        """Return the flow of a crawler; each crawler has one.

        Raises:
            ConfigurationError: a setting is wrong.
        """
        flow = _flows.get(crawler)
        if flow is None:
            flow = _flows[crawler] = cls(Session.of(crawler))
        return flow

    def reservation(self, *, counts_as_download: bool = False) -> Reservation:
        """Create a reservation for one image; it holds no lock and no slot yet.

        Args:
            counts_as_download: whether it counts as a download from the wait for its slot until its
                body has arrived, which delays further pages.
        """
        context = self.session.counted_as_download if counts_as_download else None
        return Reservation(self._locks, self._budget, self.session.settings.timeout, context)

    def image_url(self, request: Request, url: str | None = None) -> ImageUrl:
        """Return the URL of a request with its cache key.

        Args:
            request: the request.
            url: another URL that has the key which the request names, if it names one.

        Raises:
            InvalidRequestError: the URL or the key is not valid.
            KeyFunctionError: `IMGCACHE_KEY_FUNCTION` failed.
        """
        asked = request.url if url is None else url
        return ImageUrl.of(asked, request.meta.get(meta.KEY), self.session.settings.key_of)

    async def find(
        self,
        url: ImageUrl,
        request: Request,
        reservation: Reservation | None = None,
        *,
        reads: bool = True,
        asked: str | None = None,
        default_max_age: float | None = None,
    ) -> Found:
        """Look up an image and read its bytes.

        Args:
            url: its URL.
            request: the request that the hit will answer.
            reservation: the image's; it gets a slot before the bytes are read. None to read them
                without a slot.
            reads: whether to read the bytes.
            asked: the URL that was asked for, if a redirect led from it to this one.
            default_max_age: maximum age of the capture in seconds if neither the request nor a
                setting names one; None for no limit.

        Returns:
            The hit, or the stale image; nothing for a miss. An error of the cache is a miss, and
            so are bytes that a client stored although they are no picture. If a failure of the
            site is remembered: the failure, with a response of the same status.

        Raises:
            ImageWithheld: it is blocked, or the remembered failure was no response.
            ImgCacheError: the cache failed, and `IMGCACHE_STRICT` is set.
        """
        self.session.tally.count_lookup(asked or url.url)
        entry, failure, is_blocked = None, None, False
        with self._tolerating_errors():
            entry, failure, is_blocked = await self._lookups.find(url, self.accept_of(request))
        if is_blocked:
            raise blocked_url_error(url.url)
        if failure is not None and not request.meta.get(meta.RETRY_TIMES):
            return Found(known_outcome(failure, request))
        if entry is None or not is_picture(entry):
            return Found()
        max_age = self.session.ages.of(request, url.url, default_max_age)
        if self.session.settings.freshness.must_ask(entry, max_age):
            was_stale = self._revalidated.get(self._variant(url, request))
            if was_stale is None:
                # A blocked image is never delivered, but perhaps the site has another one now.
                return Found(stale=None if entry.get("blocked") else entry)
            entry = as_stale(entry) if was_stale else entry
        if entry.get("blocked"):
            raise blocked_error(blocked(entry["content_hash"]))
        if not reads:
            return Found(Outcome("hit", entry))
        body = await self.read(entry, reservation)
        if body is None:
            return Found()
        return Found(Outcome("hit", entry, cached_response(request, entry, body)))

    async def read(self, entry: Entry, reservation: Reservation | None = None) -> bytes | None:
        """Read the bytes of an image; None if that is not possible.

        Args:
            entry: the entry of the image.
            reservation: the image's; it gets a slot before the bytes are read.

        Raises:
            ImgCacheError: the cache failed, and `IMGCACHE_STRICT` is set.
        """
        if reservation is not None:
            await reservation.acquire_slot(entry["file_size_bytes"])
        with self._tolerating_errors(NotFoundError):
            body = await self.session.resilient_client.get_bytes(entry)
            if reservation is not None:
                reservation.body_arrived(len(body))
            return body
        return None

    def note_asked(self, url: ImageUrl, request: Request, entry: Entry) -> None:
        """Remember that this crawl has asked the site for a URL.

        Args:
            url: the URL.
            request: the request.
            entry: the entry of the image that was delivered.
        """
        self._revalidated.add(self._variant(url, request), entry.get("stale", False))

    def accept_of(self, request: Request) -> str:
        """Return the `Accept` of a request, or the one that Scrapy will give it; empty for none."""
        accept = request.headers.get("Accept")
        return self.session.default_accept if accept is None else accept.decode("latin-1")

    def _variant(self, url: ImageUrl, request: Request) -> tuple[str, str]:
        return url.key, self.accept_of(request)

    async def keep(
        self,
        url: ImageUrl,
        request: Request,
        response: Response,
        reservation: Reservation | None,
        *,
        stores: bool = True,
    ) -> Outcome:
        """Decide whether a response is an image, and store it if it is.

        If the cache fails, the image goes to the spool.

        Args:
            url: the URL that was asked for.
            request: the request for it.
            response: the response of the site; after a redirect it may come from the cache.
            reservation: the image's; it is corrected to the size of the body.
            stores: False if the image must not be stored.

        Raises:
            ImageWithheld: the image is blocked.
            ImgCacheError: the cache failed, and `IMGCACHE_STRICT` is set.
        """
        if reservation is not None:
            reservation.body_arrived(len(response.body))
        if not is_from_cache(response):
            self._budget.remember_size(len(response.body))
        error = await self._refusal(response)
        if error is not None:
            return Outcome.failed(error, response)
        if not stores:
            return Outcome(None, None, response)
        return await self._store(url, request, response)

    async def _refusal(self, response: Response) -> ImageFailed | None:
        error = status_error(response)
        if error is not None or is_from_cache(response):  # What is in the cache was admitted.
            return error
        admission = self.session.admission
        reason = await admission.refusal(response.body)
        if reason is None:
            return None
        return refusal_error(reason, response.status, admission.max_bytes)

    async def _store(self, url: ImageUrl, request: Request, response: Response) -> Outcome:
        session, body = self.session, response.body
        info = response_info(url.url, response, self.accept_of(request))
        if not is_from_cache(response):
            session.tally.count_fetched(len(body))
        with self._tolerating_errors(*REFUSALS):
            stored = await session.resilient_client.store(url, body, session.client_name, info)
            if stored.entry.get("created"):
                session.tally.inc("bytes_stored", len(body))
            return Outcome.stored(response, stored.entry, is_spooled=stored.is_spooled)
        return Outcome.not_stored(response)

    @lazy_property
    def _locks(self) -> KeyLocks:
        settings = self.session.settings
        return KeyLocks.of(cache_name(settings.url), settings.bucket)

    @lazy_property
    def _lookups(self) -> Lookups:
        return Lookups(self.session)

    @contextmanager
    def _tolerating_errors(self, *always: type[Exception]) -> Iterator[None]:
        """Suppress errors of the cache, which the client has logged; in strict mode raise them.

        Args:
            always: errors to suppress in strict mode too: they concern the image, not the cache.
        """
        try:
            yield
        except BlockedError as error:
            raise blocked_error(error) from error
        except Exception as error:
            if self.session.settings.strict and not isinstance(error, always):
                raise


_flows: WeakKeyDictionary["Crawler", Flow] = WeakKeyDictionary()
