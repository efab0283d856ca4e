"""Session: the settings, client and stats that all components of a crawl share."""

import gc
import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary, ref

from scrapy import signals
from scrapy.utils.asyncio import is_asyncio_available

from imgcache_scrapy.client.address import cache_name, folder_of
from imgcache_scrapy.client.admission import Admission
from imgcache_scrapy.client.client import AsyncImgCacheClient
from imgcache_scrapy.client.resilience import ResilientClient
from imgcache_scrapy.client.use_recorder import UseRecorder
from imgcache_scrapy.core.errors import ConfigurationError
from imgcache_scrapy.core.lazy import lazy_property
from imgcache_scrapy.plugin.ages import MaxAges
from imgcache_scrapy.plugin.bypass import Bypass
from imgcache_scrapy.plugin.local_uses import LocalUses
from imgcache_scrapy.plugin.log import SpiderLogger
from imgcache_scrapy.plugin.setting_values import request_headers_of
from imgcache_scrapy.plugin.settings import Settings
from imgcache_scrapy.plugin.tally import Tally

if TYPE_CHECKING:
    from scrapy.crawler import Crawler


def get_client(crawler: "Crawler") -> AsyncImgCacheClient:
    """Return the crawl's client, for direct calls from a spider; call it in `start()` or later.

    Args:
        crawler: `self.crawler` in a spider.

    Returns:
        The client; it is closed when the crawl ends. Its attribute `sync` is for plain `def`
        callbacks. Its calls bypass the circuit breaker and the spool.

    Raises:
        ConfigurationError: the cache cannot work with these settings.
    """
    return Session.of(crawler).client


class Session:
    """The settings, the client and the stats of one crawl.

    It is created on first use. The cache is not opened before the first call to it.

    Args:
        crawler: the crawler of the crawl; only a weak reference to it is kept.

    Attributes:
        settings: the settings of the crawl.
        tally: the stats of the crawl.
        log: the log of the crawl.
        ages: the maximum ages of captures.
        bypass: which requests the cache must not be used for.
        default_accept: the header `Accept` that Scrapy gives a request without one; empty for none.

    Raises:
        ConfigurationError: a setting is wrong.
    """

    def __init__(self, crawler: "Crawler") -> None:
        self.settings = Settings.from_settings(crawler.settings)
        self.tally = Tally(crawler)
        self.log = SpiderLogger(__name__, crawler)
        self.ages = MaxAges(self.settings.freshness, self.log)
        self.bypass = Bypass(crawler, self.log)
        self._request_headers = request_headers_of(crawler.settings)
        self.default_accept = self._request_headers.get("Accept", "")
        self._crawler = ref(crawler)
        self._has_frozen = self._has_lost_uses = False
        self._refusal: ConfigurationError | None = None
        crawler.signals.connect(self._open, signals.spider_opened)
        crawler.signals.connect(self._stop_if_refused, signals.engine_started)
        crawler.signals.connect(self._close, signals.spider_closed)

    @classmethod
    def of(cls, crawler: "Crawler") -> "Session":
        """Return the session of a crawler; each crawler has one."""
        session = _sessions.get(crawler)
        if session is None:
            session = _sessions[crawler] = cls(crawler)
        return session

    @lazy_property
    def client(self) -> AsyncImgCacheClient:
        """The crawl's client.

        Raises:
            ConfigurationError: there is no asyncio, or the address is wrong.
        """
        require_asyncio()
        settings = self.settings
        return AsyncImgCacheClient(
            settings.url,
            settings.timeout,
            token=settings.token,
            bucket=settings.bucket,
            key_of=settings.key_of,
            max_bytes=settings.max_bytes,
            fetch_rules=replace(settings.fetch_rules, headers=self._request_headers),
        )

    @lazy_property
    def resilient_client(self) -> ResilientClient:
        """The client with the circuit breaker and the spool, for the crawl's images."""
        settings = self.settings
        return ResilientClient(
            self.client.transport,
            None if settings.strict else settings.spool_dir,
            cache_name=cache_name(settings.url),
            bucket=settings.bucket,
            count=self.tally.inc,
            log=self.log.log,
        )

    @lazy_property
    def local_uses(self) -> LocalUses | None:
        """Where the use of local files is noted; None if no image is removed by its last use.

        With provenance, their use is recorded with that of all other images.
        """
        settings = self.settings
        is_needed = settings.max_bytes is not None and settings.provenance is None
        return LocalUses(self.resilient_client) if is_needed else None

    @lazy_property
    def uses(self) -> UseRecorder:
        """What records the uses of the crawl's images."""
        return UseRecorder(
            self.client.transport,
            self.resilient_client.breaker,
            self.settings.bucket,
            on_recorded=partial(self.tally.inc, "uses"),
            on_lost=self._lost_uses,
        )

    def _lost_uses(self, count: int, reason: object) -> None:
        """Count uses that are not recorded, and warn of the first ones."""
        level = logging.DEBUG if self._has_lost_uses else logging.WARNING
        self._has_lost_uses = True
        self.tally.inc("uses_lost", count)
        self.log.log(level, "The use of %d images is not recorded: %s", count, reason)

    @lazy_property
    def admission(self) -> Admission:
        """What decides which bodies of the crawl may be kept as images."""
        return Admission(self.settings.max_image_bytes)

    @property
    def client_name(self) -> str:
        """The name under which images are stored."""
        crawler = self._crawler()
        spider = None if crawler is None else crawler.spider
        return self.settings.client_name or (spider.name if spider is not None else "scrapy")

    @contextmanager
    def counted_as_download(self) -> Iterator[None]:
        """Count as one more active download, which delays Scrapy's next pages.

        Scrapy counts the downloads of its own media pipelines too. Without this, pages and their
        items would pile up in memory.
        """
        crawler = self._crawler()
        assert crawler is not None  # noqa: S101 - the crawl is running
        downloads: set[object] = crawler.engine.downloader.active  # type: ignore[assignment]
        download = object()
        downloads.add(download)
        try:
            yield
        finally:
            downloads.discard(download)

    async def _open(self) -> None:
        if "client" not in self.__dict__:
            return
        # A full garbage collection visits all objects that were loaded before the crawl. That
        # blocks the event loop for 50 ms and more each time.
        self._has_frozen = not gc.get_freeze_count()
        if self._has_frozen:
            gc.freeze()
        try:
            if folder_of(self.settings.url) is None:  # An embedded cache has no token.
                await self.resilient_client.check_access()
        except ConfigurationError as error:
            self._refusal = error
        else:
            self.resilient_client.replay_soon()

    async def _stop_if_refused(self) -> None:
        """Stop the crawl before its first request if the cache refuses the token or its name."""
        crawler = self._crawler()
        if self._refusal is not None and crawler is not None:
            self.log.error("%s", self._refusal)
            await crawler.engine.close_spider_async(reason=f"imgcache_{_cause(self._refusal)}")
            await crawler.engine.stop_async()

    async def _close(self) -> None:
        self.tally.close()
        if self._has_frozen:
            gc.unfreeze()
        try:
            await self._close_clients()
        finally:
            if summary := self.tally.summary():
                self.log.log(logging.INFO, "%s", summary)

    async def _close_clients(self) -> None:
        if "client" in self.__dict__:
            if self.local_uses is not None:
                await self.local_uses.aclose()
            if self._refusal is None:
                await self.resilient_client.aclose()
                if "uses" in self.__dict__:  # Now the images of the spool are in the cache.
                    await self.uses.aclose()
            await self.client.aclose()
        if "admission" in self.__dict__:
            await self.admission.aclose()


def require_asyncio() -> None:
    """Check that the reactor supports asyncio.

    Before there is a reactor or an event loop, for example in a test, there is nothing to check.

    Raises:
        ConfigurationError: it does not; the message says what to do.
    """
    has_asyncio = True
    with suppress(RuntimeError):
        has_asyncio = is_asyncio_available()
    if not has_asyncio:
        raise ConfigurationError(
            "imgcache-scrapy needs asyncio: leave TWISTED_REACTOR at its default or set it to "
            "'twisted.internet.asyncioreactor.AsyncioSelectorReactor'"
        )


def _cause(refusal: ConfigurationError) -> str:
    """Return the code of the error that was the cause of a refusal."""
    return getattr(refusal.__cause__, "code", refusal.code)


_sessions: WeakKeyDictionary["Crawler", Session] = WeakKeyDictionary()
