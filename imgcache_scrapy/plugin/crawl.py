"""What one crawl shares: its client, joined lookups, bounded misses."""

import asyncio
import gc
import logging
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary, WeakValueDictionary, ref

from scrapy import signals
from scrapy.http import Response
from scrapy.utils.asyncio import is_asyncio_available

from imgcache_scrapy.client.client import AsyncImgCacheClient
from imgcache_scrapy.client.resilience import ResilientClient
from imgcache_scrapy.core.entry import Entry
from imgcache_scrapy.core.errors import REFUSALS, ConfigurationError, NotFoundError
from imgcache_scrapy.core.joining import Joined, Place, Room
from imgcache_scrapy.plugin.fates import Fates
from imgcache_scrapy.plugin.responses import is_from_cache
from imgcache_scrapy.plugin.settings import Settings

if TYPE_CHECKING:
    from scrapy import Spider
    from scrapy.crawler import Crawler

logger = logging.getLogger(__name__)

_at_once: ContextVar[bool] = ContextVar("imgcache_at_once", default=False)

# What may be in memory between a lookup and the end of its store: media downloads bypass
# CONCURRENT_REQUESTS, and bodies would pile up behind the stores.
MAX_MISSES = 64
MAX_MISS_BYTES = 64 * 2**20
_JOINED = 100
# One alone waits too long for the interpreter, and pages pile up behind it.
_LOOKUPS = 2
_FIRST_GUESS = 2**20


def get_client(crawler: "Crawler") -> AsyncImgCacheClient:
    """Give the crawl's client, for direct calls from a spider, from `start()` on.

    Args:
        crawler: `self.crawler` in a spider.

    Returns:
        The client, closed with the crawl; its `sync` is for plain `def` callbacks.

    Raises:
        ConfigurationError: the cache cannot work with these settings, or in this installation.
    """
    return Crawl.of(crawler).client


class Crawl:
    """What the pipelines, the middleware and the spider of one crawl share.

    Made on first use by whichever needs it; nothing is opened before the first call.

    Args:
        crawler: the crawl's crawler; it is not kept alive.

    Attributes:
        settings: the crawl's.
        fates: counts what became of its images.

    Raises:
        ConfigurationError: a setting is wrong.
    """

    def __init__(self, crawler: "Crawler") -> None:
        self.settings = Settings.from_settings(crawler.settings)
        self.fates = Fates(self._inc)
        self._crawler = ref(crawler)
        self._lookups: Joined[str, Entry] = Joined(self._lookup_many, limit=_JOINED, calls=_LOOKUPS)
        self._misses = Room(count=MAX_MISSES, size=MAX_MISS_BYTES)
        self._sizes: deque[int] = deque([_FIRST_GUESS], maxlen=MAX_MISSES)
        self._alone: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._has_frozen = False
        crawler.signals.connect(self._open, signals.spider_opened)
        crawler.signals.connect(self._close, signals.spider_closed)

    @classmethod
    def of(cls, crawler: "Crawler") -> "Crawl":
        """Give the crawl of a crawler, the same one every time."""
        crawl = _crawls.get(crawler)
        if crawl is None:
            crawl = _crawls[crawler] = cls(crawler)
        return crawl

    @cached_property
    def client(self) -> AsyncImgCacheClient:
        """The crawl's client.

        Raises:
            ConfigurationError: there is no asyncio, or the embedded cache is not installed.
        """
        require_asyncio()
        settings = self.settings
        return AsyncImgCacheClient(
            settings.url, settings.timeout, token=settings.token, bucket=settings.bucket
        )

    @cached_property
    def _cache(self) -> ResilientClient:
        return ResilientClient(
            self.client,
            None if self.settings.strict else Path(self.settings.spool_dir).absolute(),
            bucket=self.settings.bucket,
            count=self._inc,
            log=self._log,
        )

    @contextmanager
    def holding_pages_back(self) -> Iterator[None]:
        """Count as one download more, so that Scrapy waits with its next pages.

        So it does for the downloads of its own media pipelines; pages pile up in memory otherwise.
        """
        crawler = self._crawler()
        assert crawler is not None  # noqa: S101 - it runs
        downloads: set[object] = crawler.engine.downloader.active  # type: ignore[assignment]
        one_more = object()
        downloads.add(one_more)
        try:
            yield
        finally:
            downloads.discard(one_more)

    async def enter(self, entry: Entry | None = None) -> Place:
        """Wait for a place for the body of an image.

        Nobody who holds a place may wait for another, but `enter_at_once`.

        Args:
            entry: the image, where it is known; others are taken to be as large as the last ones.
        """
        expected = max(self._sizes) if entry is None else entry["file_size_bytes"]
        return await self._misses.enter(expected, at_once=_at_once.get())

    def enter_at_once(self) -> None:
        """Let this task, and those that it starts, have places from now on without waiting."""
        _at_once.set(True)

    async def lookup(self, key: str) -> Entry | None:
        """Ask the cache for a URL; trouble is a miss.

        Raises:
            ImgCacheError: there is trouble, which `IMGCACHE_STRICT` forbids to take as a miss.
        """
        self._inc("lookup")
        try:
            return await self._lookups.ask(key)
        except Exception:
            if self.settings.strict:
                raise
            return None

    async def read(self, entry: Entry) -> bytes | None:
        """Read an entry's bytes; None where that is not possible, which is a miss.

        Raises:
            ImgCacheError: as in `lookup`.
        """
        try:
            return await self._cache.get_bytes(entry)
        except Exception as error:
            if self.settings.strict and not isinstance(error, NotFoundError):
                raise
            return None

    async def store(self, key: str, response: Response) -> Entry | None:
        """Store the image in a response under a URL, in the spool where the cache is in trouble.

        Returns:
            The entry, in the spool one without `created`; None where neither took the image.

        Raises:
            ImgCacheError: as in `lookup`.
        """
        body = response.body
        if not is_from_cache(response):
            self.fates.note_fetched(len(body))
            self._sizes.append(len(body))
        try:
            entry = await self._cache.store(key, body, self._client_name)
        except Exception as error:
            if self.settings.strict and not isinstance(error, REFUSALS):
                raise
            return None
        if entry.get("created"):
            self._inc("bytes_stored", len(body))
        return entry

    def alone(self, key: str) -> asyncio.Lock:
        """Give the lock of a key, held from its lookup to its store: others then find it stored."""
        return self._alone.setdefault(key, asyncio.Lock())

    async def enter_alone(self, key: str, holding: ExitStack) -> None:
        """Wait until nobody else looks after a key, and keep others from it as long as this holds.

        Who may `enter_at_once` waits for nobody: he holds a place.
        """
        if not _at_once.get():
            lock = self.alone(key)
            await lock.acquire()
            holding.callback(lock.release)

    @property
    def _client_name(self) -> str:
        spider = self._spider
        return self.settings.client_name or (spider.name if spider is not None else "scrapy")

    @property
    def _spider(self) -> "Spider | None":
        crawler = self._crawler()
        return crawler.spider if crawler is not None else None

    async def _lookup_many(self, keys: list[str]) -> dict[str, Entry]:
        return await self._cache.lookup_many(keys)

    def _inc(self, name: str, count: int = 1) -> None:
        crawler = self._crawler()
        if crawler is not None:
            crawler.stats.inc_value(f"imgcache/{name}", count)

    def _log(self, level: int, message: str, *args: object) -> None:
        logger.log(level, message, *args, extra={"spider": self._spider})

    def _open(self) -> None:
        if "client" in self.__dict__:
            # Most of what a full collection walks through was there before the crawl, and stays:
            # 50 ms and more each time in which the event loop stands still.
            self._has_frozen = not gc.get_freeze_count()
            if self._has_frozen:
                gc.freeze()
            self._cache.replay_soon()

    async def _close(self) -> None:
        if self._has_frozen:
            gc.unfreeze()
        if "client" in self.__dict__:
            await self._cache.aclose()
            await self.client.aclose()
        if summary := self.fates.summary():
            self._log(logging.INFO, "%s", summary)


def require_asyncio() -> None:
    """Refuse a crawl on a reactor without asyncio.

    Raises:
        ConfigurationError: with what to do.
    """
    if not is_asyncio_available():
        raise ConfigurationError(
            "imgcache-scrapy needs asyncio: leave TWISTED_REACTOR at its default or set it to "
            "'twisted.internet.asyncioreactor.AsyncioSelectorReactor'"
        )


_crawls: WeakKeyDictionary["Crawler", Crawl] = WeakKeyDictionary()
