"""Flow: finds images in the cache and stores fetched ones, for all components of a crawl."""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from scrapy import Request
from scrapy.http import Response

from imgcache_scrapy.client.address import cache_name
from imgcache_scrapy.core.admission import is_picture
from imgcache_scrapy.core.concurrency import Batcher
from imgcache_scrapy.core.entry import Entry
from imgcache_scrapy.core.errors import REFUSALS, NotFoundError
from imgcache_scrapy.core.image_url import ImageUrl
from imgcache_scrapy.core.keys import has_user
from imgcache_scrapy.plugin import meta
from imgcache_scrapy.plugin.memory import MemoryBudget
from imgcache_scrapy.plugin.outcome import ImageFailed, Outcome, refusal_error, status_error
from imgcache_scrapy.plugin.reservation import KeyLocks, Reservation
from imgcache_scrapy.plugin.responses import cached_response, is_from_cache, response_info
from imgcache_scrapy.plugin.session import Session

if TYPE_CHECKING:
    from scrapy.crawler import Crawler

_Question = tuple[str | None, ImageUrl]

_MAX_BATCH = 100
# With a single call, pages would queue behind it while it waits for the interpreter lock.
_MAX_CALLS = 2


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
            counts_as_download: whether its slot counts as a download, which delays further pages.
        """
        slot_context = self.session.counted_as_download if counts_as_download else None
        return Reservation(self._locks, self._budget, self.session.settings.timeout, slot_context)

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
    ) -> Outcome | None:
        """Look up an image and read its bytes.

        Args:
            url: its URL.
            request: the request that the hit will answer.
            reservation: the image's; it gets a slot before the bytes are read. None to read them
                without a slot.
            reads: whether to read the bytes.
            asked: the URL that was asked for, if a redirect led from it to this one.

        Returns:
            The hit; None for a miss. An error of the cache is a miss, and so are bytes that a
            client stored although they are no picture.

        Raises:
            ImgCacheError: the cache failed, and `IMGCACHE_STRICT` is set.
        """
        self.session.tally.count_lookup(asked or url.url)
        entry = body = None
        with self._tolerating_errors():
            entry = await self._lookup_batcher.ask((self._accept(request), url))
        if entry is None or not is_picture(entry):
            return None
        if not reads:
            return Outcome("hit", entry)
        if reservation is not None:
            await reservation.acquire_slot(entry["file_size_bytes"])
        with self._tolerating_errors(NotFoundError):
            body = await self.session.resilient_client.get_bytes(entry)
        if body is None:
            return None
        return Outcome("hit", entry, cached_response(request, entry, body))

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
            ImgCacheError: the cache failed, and `IMGCACHE_STRICT` is set.
        """
        if reservation is not None:
            reservation.resize(len(response.body))
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
        info = response_info(url.url, response, self._accept(request))
        if not is_from_cache(response):
            session.tally.count_fetched(len(body))
        with self._tolerating_errors(*REFUSALS):
            stored = await session.resilient_client.store(url, body, session.client_name, info)
            if stored.entry.get("created"):
                session.tally.inc("bytes_stored", len(body))
            return Outcome.stored(response, stored.entry, is_spooled=stored.is_spooled)
        return Outcome.not_stored(response)

    @cached_property
    def _locks(self) -> KeyLocks:
        settings = self.session.settings
        return KeyLocks.of(cache_name(settings.url), settings.bucket)

    @cached_property
    def _lookup_batcher(self) -> Batcher[_Question, Entry]:
        return Batcher(self._look_up, max_batch=_MAX_BATCH, max_calls=_MAX_CALLS)

    async def _look_up(self, questions: list[_Question]) -> dict[_Question, Entry]:
        urls = defaultdict(list)
        for accept, url in questions:
            urls[accept].append(url)
        found: dict[_Question, Entry] = {}
        for accept, group in urls.items():
            entries = await self.session.resilient_client.lookup_many(group, accept)
            found |= {(accept, url): entry for url, entry in entries.items()}
        return found

    def _accept(self, request: Request) -> str | None:
        """Return the header `Accept` of a request, or the one that Scrapy will give it."""
        accept = request.headers.get("Accept")
        return self.session.default_accept if accept is None else accept.decode("latin-1")

    @contextmanager
    def _tolerating_errors(self, *always: type[Exception]) -> Iterator[None]:
        """Suppress errors of the cache, which the client has logged; in strict mode raise them.

        Args:
            always: errors to suppress in strict mode too: they concern the image, not the cache.
        """
        try:
            yield
        except Exception as error:
            if self.session.settings.strict and not isinstance(error, always):
                raise


def bypasses_cache(request: Request) -> bool:
    """Return whether the cache must not be used for this request.

    What a user and a password give is private, unless the request says that the cache may have it.
    """
    is_private = has_user(request.url) and not request.meta.get(meta.CACHE)
    is_whole = request.method == "GET" and b"Range" not in request.headers
    is_forbidden = bool(request.meta.get(meta.DONT_CACHE)) or request.meta.get(meta.CACHE) is False
    return not is_whole or is_forbidden or is_private


_flows: WeakKeyDictionary["Crawler", Flow] = WeakKeyDictionary()
