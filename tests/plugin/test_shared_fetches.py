"""Crawls and pipelines that want the same images at the same time fetch each of them once."""

import asyncio
import gc

import pytest

from imgcache_scrapy.plugin.memory import MemoryBudget
from imgcache_scrapy.plugin.reservation import KeyLocks, Reservation
from tests.support.pictures import jpeg
from tests.support.pipelines import FILES, PIPELINE, STOCK
from tests.support.site import respond
from tests.support.waiting import wait_until

ROADS = {"pipeline": PIPELINE, "drop-in": FILES, "middleware": STOCK}


@pytest.mark.parametrize("road", ROADS)
def test_spiders_of_one_process_fetch_each_image_once(crawl, site, road):
    """Three spiders that want the same eight: one fetches it, the others get a hit."""

    def wait_for_all(handler):
        wait_until(lambda: site.asked["/"] == 3)
        respond(handler, jpeg(int(handler.path[1])))

    site.answers |= {f"/{n}.jpg": wait_for_all for n in range(8)}
    items = [{"image_urls": [f"{site.url}/{n}.jpg" for n in range(8)]}]
    spiders = [{"name": name, "items": items} for name in ("a", "b", "c")]
    done = crawl(None, ROADS[road] | {"IMGCACHE_TIMEOUT": 300}, spiders=spiders)
    assert site.images_asked().total() == 8
    assert sum(stats.get("imgcache/stored", 0) for stats in done.all_stats) == 8
    assert sum(stats.get("imgcache/hit", 0) for stats in done.all_stats) == 16


def test_pipelines_of_a_crawl_fetch_each_image_once(crawl, site):
    """Two subclasses of one pipeline, and another one with the same fields."""
    site.answers |= {f"/{n}.jpg": jpeg(n) for n in range(8)}
    pipelines = {
        "tests.support.custom.FirstFiles": 1,
        "tests.support.custom.SecondFiles": 2,
        "imgcache_scrapy.ImgCachePipeline": 3,
    }
    items = [{"image_urls": [f"{site.url}/{n}.jpg" for n in range(8)]}] * 2
    crawl(items, FILES | {"ITEM_PIPELINES": pipelines})
    assert site.images_asked().total() == 8


async def test_who_waits_for_a_lock_goes_on_without_it():
    """After the time that a call to the cache may take; and nothing else is changed."""
    locks, budget = KeyLocks.of("cache", "bucket"), MemoryBudget()
    first, second = Reservation(locks, budget), Reservation(locks, budget, 0.05)
    await first.acquire_lock("key")
    await second.acquire_lock("key")
    assert locks.lock("key").locked()
    second.release()
    assert locks.lock("key").locked()
    first.release()
    assert not locks.lock("key").locked()


async def test_locks_are_shared_while_somebody_has_them():
    """By cache and bucket; then they are gone."""
    locks = KeyLocks.of("cache", "bucket")
    assert KeyLocks.of("cache", "bucket") is locks
    assert KeyLocks.of("cache", "other") is not locks
    lock = locks.lock("key")
    await lock.acquire()
    del locks
    gc.collect()
    assert not KeyLocks.of("cache", "bucket").lock("key").locked()


def test_locks_belong_to_one_event_loop():
    """An asyncio lock cannot be shared between loops."""

    async def locks():
        return KeyLocks.of("cache", "bucket")

    first = asyncio.run(locks())
    assert asyncio.run(locks()) is not first
