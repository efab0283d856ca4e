"""Flow: how an image is found in the cache, and how a fetched one is kept, for all of a crawl."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from scrapy import Request
from scrapy.http import Response

from imgcache_scrapy.core.concurrency import Batcher
from imgcache_scrapy.core.entry import Entry
from imgcache_scrapy.core.errors import REFUSALS, NotFoundError
from imgcache_scrapy.plugin import meta
from imgcache_scrapy.plugin.memory import MemoryBudget
from imgcache_scrapy.plugin.outcome import Outcome, refused
from imgcache_scrapy.plugin.reservation import KeyLocks, Reservation
from imgcache_scrapy.plugin.responses import cached_response, is_from_cache
from imgcache_scrapy.plugin.session import Session

if TYPE_CHECKING:
    from scrapy.crawler import Crawler

_MAX_LOOKUPS = 100
# With one call at a time, pages pile up behind it while it waits for the interpreter lock.
_LOOKUP_CALLS = 2


class Flow:
    """What the pipelines and the middleware of a crawl do with an image.

    Args:
        session: the crawl's.

    Attributes:
        session: the crawl's.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self._locks = KeyLocks()
        self._budget = MemoryBudget()

    @classmethod
    def of(cls, crawler: "Crawler") -> "Flow":
        """Return the flow of a crawler, the same one every time.

        Raises:
            ConfigurationError: a setting is wrong.
        """
        flow = _flows.get(crawler)
        if flow is None:
            flow = _flows[crawler] = cls(Session.of(crawler))
        return flow

    def reservation(self, *, counts_as_download: bool = False) -> Reservation:
        """Make a reservation for one image, which holds nothing yet.

        Args:
            counts_as_download: whether Scrapy holds back its next pages while it has a slot.
        """
        beside = self.session.counted_as_download if counts_as_download else None
        return Reservation(self._locks, self._budget, beside)

    async def find(
        self, key: str, request: Request, reservation: Reservation | None, *, reads: bool = True
    ) -> Outcome | None:
        """Look an image up, and read it.

        Args:
            key: the cache key of its URL.
            request: what the response is for.
            reservation: takes a slot before bytes are read; None if the caller has one.
            reads: False if the bytes may stay in the cache.

        Returns:
            The hit; None for a miss. Trouble with the cache is a miss.

        Raises:
            ImgCacheError: there is trouble with the cache, and `IMGCACHE_STRICT` is set.
        """
        self.session.tally.inc("lookup")
        entry = body = None
        with self._tolerating():
            entry = await self._lookups.ask(key)
        if entry is None or not reads:
            return entry and Outcome("hit", entry)
        if reservation is not None:
            await reservation.acquire_slot(entry["file_size_bytes"])
        with self._tolerating(NotFoundError):
            body = await self.session.resilient_client.get_bytes(entry)
        return (
            None if body is None else Outcome("hit", entry, cached_response(request, entry, body))
        )

    async def keep(
        self,
        key: str,
        response: Response,
        reservation: Reservation | None,
        *,
        stores: bool = True,
    ) -> Outcome:
        """Decide whether a response is an image, and store it if it is.

        An image that the cache does not take now goes to the spool.

        Args:
            key: the cache key of the URL that was asked for.
            response: the site's, or after a redirect perhaps the cache's.
            reservation: the image's, to be told the size of the body.
            stores: False if the cache is kept out.

        Raises:
            ImgCacheError: as in `find`.
        """
        if reservation is not None:
            reservation.resize(len(response.body))
        error = refused(response)
        if error is not None:
            return Outcome.failed(error, response)
        if not stores:
            return Outcome(None, None, response)
        return await self._stored(key, response)

    async def _stored(self, key: str, response: Response) -> Outcome:
        session, body = self.session, response.body
        if not is_from_cache(response):
            session.tally.count_fetched(len(body))
        with self._tolerating(*REFUSALS):
            stored = await session.resilient_client.store(key, body, session.client_name)
            if stored.entry.get("created"):
                session.tally.inc("bytes_stored", len(body))
            return Outcome.stored(response, stored.entry, is_spooled=stored.is_spooled)
        return Outcome.not_stored(response)

    @cached_property
    def _lookups(self) -> Batcher[str, Entry]:
        look_up = self.session.resilient_client.lookup_many
        return Batcher(look_up, max_batch=_MAX_LOOKUPS, max_calls=_LOOKUP_CALLS)

    @contextmanager
    def _tolerating(self, *answers: type[Exception]) -> Iterator[None]:
        """Let an image not suffer from trouble with the cache, unless `IMGCACHE_STRICT` is set.

        Args:
            answers: errors that say something of this image, and are no trouble.
        """
        try:
            yield
        except Exception as error:
            if self.session.settings.strict and not isinstance(error, answers):
                raise


def bypasses_cache(request: Request) -> bool:
    """Return whether the cache must stay out of this request."""
    is_whole = request.method == "GET" and b"Range" not in request.headers
    is_forbidden = bool(request.meta.get(meta.DONT_CACHE)) or request.meta.get(meta.CACHE) is False
    return not is_whole or is_forbidden


_flows: WeakKeyDictionary["Crawler", Flow] = WeakKeyDictionary()
