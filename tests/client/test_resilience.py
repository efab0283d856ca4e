"""The crawl's client in front of a real service, with real faults in between."""

import logging
from uuid import uuid4

import pytest

from imgcache_scrapy import AsyncImgCacheClient, UnavailableError
from imgcache_scrapy.client import breaker
from imgcache_scrapy.client.resilience import ResilientClient
from imgcache_scrapy.client.spool import Spool
from tests.support.proxy import POISON, Proxy
from tests.support.waiting import PATIENCE

URL = "http://h.example/a.gif"


@pytest.fixture
def proxy(shared_service):
    """A proxy in front of a service."""
    proxy = Proxy(shared_service.url)
    yield proxy
    proxy.close()


@pytest.fixture(autouse=True)
def _no_probes(monkeypatch):
    """Let no probe come in between, however slow the machine is."""
    monkeypatch.setattr(breaker, "PROBE_SECONDS", 3600)


class Crawl:
    """A resilient client, and what it counts and logs; to be used as a context."""

    def __init__(self, proxy, spool, timeout=PATIENCE):
        self.client = AsyncImgCacheClient(proxy.url, timeout, bucket=uuid4().hex)
        self.counted = []
        self.logged = []
        self.cache = ResilientClient(
            self.client.transport, spool, bucket="", count=self.counted.append, log=self._log
        )

    async def fail(self):
        """Make lookups until the cache is left alone."""
        for _ in range(3):
            with pytest.raises(UnavailableError):
                await self.cache.lookup_many([URL])

    def _log(self, level, message, *args):
        self.logged.append((logging.getLevelName(level), message % args))

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        await self.cache.aclose()
        await self.client.aclose()


async def test_a_direct_call_is_made_whatever_the_breaker_says(proxy, tmp_path):
    """A spider that asks gets the answer, or the error, of the cache itself."""
    async with Crawl(proxy, tmp_path) as crawl:
        proxy.fault = "error"
        await crawl.fail()
        with pytest.raises(UnavailableError, match="the cache answered 500"):
            await crawl.client.lookup(URL)
        proxy.fault = None
        assert await crawl.client.lookup(URL) is None
        with pytest.raises(UnavailableError, match="is not called"):
            await crawl.cache.lookup_many([URL])


async def test_a_store_is_spooled_at_once_while_the_cache_is_left_alone(proxy, tmp_path):
    """No call is made, and what the spool knows is the answer."""
    async with Crawl(proxy, tmp_path) as crawl:
        proxy.fault = "error"
        await crawl.fail()
        asked = len(proxy.asked)
        entry, is_spooled = await crawl.cache.store(URL, b"GIF89a", "me")
        assert len(proxy.asked) == asked
        assert is_spooled
        assert "created" not in entry
        (waiting,) = Spool(tmp_path).listed()
        assert (waiting.record.url, waiting.record.data) == (URL, b"GIF89a")
        assert waiting.record.lookup_time.isoformat() == entry["lookup_time"]


async def test_without_a_spool_the_error_is_told(proxy):
    """A strict crawl wants it so."""
    async with Crawl(proxy, None) as crawl:
        proxy.fault = "error"
        with pytest.raises(UnavailableError):
            await crawl.cache.store(URL, b"GIF89a", "me")


async def test_a_record_that_never_works_holds_up_no_other(proxy, tmp_path):
    """One that the cache fails at each time is passed over; the others are stored."""
    async with Crawl(proxy, tmp_path) as crawl:
        proxy.fault = "error"
        await crawl.fail()
        for number in range(6):
            await crawl.cache.store(f"{URL}?{number}", b"GIF89a%d" % number, "me")
    first, *_ = Spool(tmp_path).listed()
    proxy.fault, proxy.poison = POISON, first.record.data
    async with Crawl(proxy, tmp_path) as crawl:
        await crawl.cache.replay()
    assert crawl.counted.count("replayed") == 5
    assert Spool(tmp_path).names() == [first.name]


async def test_the_spool_is_not_read_while_the_cache_is_left_alone(proxy, tmp_path):
    """It may be large: not even what is damaged is found."""
    async with Crawl(proxy, tmp_path) as crawl:
        proxy.fault = "error"
        await crawl.fail()
        await crawl.cache.store(URL, b"GIF89a", "me")
        (name,) = Spool(tmp_path).names()
        (tmp_path / name).write_bytes(b"")
        await crawl.cache.replay()
        assert Spool(tmp_path).names() == [name]


async def test_a_spool_that_cannot_be_read_is_told(proxy, tmp_path):
    """A file in its place costs nothing else."""
    (tmp_path / "spool").write_bytes(b"")
    async with Crawl(proxy, tmp_path / "spool") as crawl:
        await crawl.cache.replay()
    assert (
        "WARNING",
        f"The spool cannot be read: [Errno 20] Not a directory: '{tmp_path / 'spool'}'",
    ) in crawl.logged
