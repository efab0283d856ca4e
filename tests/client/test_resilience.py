"""The crawl's client in front of a real service, with real faults in between."""

import logging
import os
import time
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from imgcache_scrapy import AsyncImgCacheClient, ConfigurationError, UnavailableError
from imgcache_scrapy.client import breaker
from imgcache_scrapy.client.address import cache_name
from imgcache_scrapy.client.resilience import ResilientClient
from imgcache_scrapy.client.spool import Spool
from imgcache_scrapy.core.image_url import ImageUrl
from tests.support.proxy import POISON, Proxy
from tests.support.records import UNREADABLE, add_unreadable, filled, record_of
from tests.support.waiting import PATIENCE

URL = "http://h.example/a.gif"
ASKED = ImageUrl.of(URL)


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

    def __init__(self, proxy, spool, timeout=PATIENCE, cache=None):
        self.client = AsyncImgCacheClient(proxy.url, timeout, bucket=uuid4().hex)
        self.counted = []
        self.logged = []
        self.cache = ResilientClient(
            self.client.transport,
            spool,
            cache_name=cache or cache_name(proxy.url),
            bucket="",
            count=self.counted.append,
            log=self._log,
        )

    async def fail(self):
        """Make lookups until the cache is left alone."""
        for _ in range(3):
            with pytest.raises(UnavailableError):
                await self.cache.lookup_many([ASKED])

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
            await crawl.cache.lookup_many([ASKED])


async def test_a_store_is_spooled_at_once_while_the_cache_is_left_alone(proxy, tmp_path):
    """No call is made, and what the spool knows is the answer."""
    async with Crawl(proxy, tmp_path) as crawl:
        proxy.fault = "error"
        await crawl.fail()
        asked = len(proxy.asked)
        entry, is_spooled = await crawl.cache.store(ASKED, b"GIF89a", "me")
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
            await crawl.cache.store(ASKED, b"GIF89a", "me")


async def test_a_record_that_never_works_holds_up_no_other(proxy, tmp_path):
    """One that the cache fails at each time is passed over; the others are stored."""
    async with Crawl(proxy, tmp_path) as crawl:
        proxy.fault = "error"
        await crawl.fail()
        for number in range(6):
            await crawl.cache.store(ImageUrl.of(f"{URL}?{number}"), b"GIF89a%d" % number, "me")
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
        await crawl.cache.store(ASKED, b"GIF89a", "me")
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
        f"The spool cannot be read: {tmp_path / 'spool'} cannot be used: Not a directory",
    ) in crawl.logged


async def test_records_go_to_no_other_cache(proxy, tmp_path):
    """Each waits for its own, whichever cache is there first; older records go to the first."""
    spool = Spool(tmp_path)
    spool.put(record_of(1, cache="http://other.example"))
    spool.put(record_of(2, cache=cache_name(proxy.url)))
    spool.put(record_of(3))
    async with Crawl(proxy, tmp_path) as crawl:
        await crawl.cache.replay()
        assert crawl.counted.count("replayed") == 2
    (left,) = Spool(tmp_path).listed()
    assert left.record.cache == "http://other.example"
    async with Crawl(proxy, tmp_path, cache="http://other.example") as crawl:
        pass
    assert (crawl.counted, Spool(tmp_path).names()) == (["replayed"], [])


async def test_what_cannot_be_read_is_passed_over(proxy, tmp_path):
    """One warning names it, however often the spool is replayed; the others are stored."""
    filled(Spool(tmp_path), 20)
    names = [add_unreadable(tmp_path, kind) for kind in UNREADABLE]
    async with Crawl(proxy, tmp_path) as crawl:
        await crawl.cache.replay()
        await crawl.cache.replay()
    assert crawl.counted == ["replayed"] * 20
    ((level, message),) = [line for line in crawl.logged if "cannot be read or removed" in line[1]]
    assert level == "WARNING"
    assert all(name in message for name in names)
    assert Spool(tmp_path).names() == names


async def test_records_that_fail_hold_up_no_others(proxy, tmp_path):
    """They open the breaker, and then the others come first: in this crawl and in the next."""
    proxy.fault, proxy.poison = POISON, b"poison"
    spool = Spool(tmp_path)
    for number in range(10):
        spool.put(record_of(number, data=b"poison%d" % number if number < 5 else b"GIF89a"))
    for name in spool.names():
        is_poison = spool.read(name).data != b"GIF89a"
        os.utime(tmp_path / name, (time.time() - 1000 * is_poison,) * 2)
    async with Crawl(proxy, tmp_path) as crawl:
        await crawl.cache.replay()
        assert crawl.counted.count("replayed") <= 1
    for _ in range(10):  # Each crawl stores some, or puts some of those that fail behind them.
        async with Crawl(proxy, tmp_path) as crawl:
            await crawl.cache.replay()
    assert {waiting.record.data[:6] for waiting in spool.listed()} == {b"poison"}


async def test_a_url_that_waits_is_a_hit(proxy, tmp_path):
    """For later crawls with this spool, whether the cache works or not, until it is stored."""
    async with Crawl(proxy, tmp_path) as crawl:
        proxy.fault = "error"
        await crawl.fail()
        stored, _ = await crawl.cache.store(ASKED, b"GIF89a", "me")
        other = ImageUrl.of(f"{URL}?other")
        assert (await crawl.cache.lookup_many([ASKED, other])).entries == {ASKED: stored}
    async with Crawl(proxy, tmp_path) as crawl:
        assert (await crawl.cache.lookup_many([ASKED, other])).entries == {ASKED: stored}
        proxy.fault = None
        assert (await crawl.cache.lookup_many([ASKED, other])).entries == {ASKED: stored}
        assert await crawl.cache.get_bytes(stored) == b"GIF89a"
        await crawl.cache.replay()
        (found,) = (await crawl.cache.lookup_many([ASKED, other])).entries.values()
        assert "original_filename" in found
        assert found["created_at"] != stored["created_at"]
        assert await crawl.cache.get_bytes(found) == b"GIF89a"


@pytest.mark.parametrize("days", [1, -1])
async def test_the_newest_image_is_found_in_cache_and_spool(proxy, tmp_path, days):
    """A URL that was fetched again in an outage is not the old image when the cache is back."""
    async with Crawl(proxy, tmp_path) as crawl:
        stored, _ = await crawl.cache.store(ASKED, b"GIF89a stored", "me")
        fetched = datetime.now(UTC) + timedelta(days)
        data = b"GIF89a spooled"
        spool = Spool(tmp_path)
        spool.put(
            record_of(1, url=URL, data=data, lookup_time=fetched, cache=cache_name(proxy.url))
        )
        (found,) = (await crawl.cache.lookup_many([ASKED])).entries.values()
        newest = data if days > 0 else b"GIF89a stored"
        assert await crawl.cache.get_bytes(found) == newest
        assert (found["content_hash"] == stored["content_hash"]) == (days < 0)


async def test_a_damaged_record_is_no_hit(proxy, tmp_path):
    """Its URL is fetched again."""
    async with Crawl(proxy, tmp_path) as crawl:
        proxy.fault = "error"
        await crawl.fail()
        await crawl.cache.store(ASKED, b"GIF89a", "me")
        (name,) = Spool(tmp_path).names()
        (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:-1])
        with pytest.raises(UnavailableError):
            await crawl.cache.lookup_many([ASKED])


async def test_a_refused_token_is_told(service, stopped_service, tmp_path):
    """The message says what to set; other trouble is no refusal."""
    service.stop()
    service.environment = {"IMGCACHE_TOKEN": "secret"}
    service.start()
    proxy = Proxy(service.url)
    async with Crawl(proxy, None) as crawl:
        with pytest.raises(ConfigurationError, match="set IMGCACHE_TOKEN to the token"):
            await crawl.cache.check_access()
        proxy.fault = "refuse"
        await crawl.cache.check_access()
    proxy.close()
