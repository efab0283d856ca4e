"""Crawls and pipelines that request the same images at the same time fetch each image once."""

import asyncio
import gc

import pytest

from imgcache_scrapy.plugin.memory import MemoryBudget
from imgcache_scrapy.plugin.reservation import KeyLocks, Reservation
from tests.support.pictures import jpeg
from tests.support.pipelines import FILES, PIPELINE, STOCK
from tests.support.site import respond
from tests.support.waiting import wait_until

COMPONENTS = {"pipeline": PIPELINE, "drop-in": FILES, "middleware": STOCK}


@pytest.mark.parametrize("component", COMPONENTS)
def test_spiders_of_one_process_fetch_each_image_once(crawl, site, component):
    """Three spiders request the same eight images: one fetches each image, and the others hit."""

    def wait_for_all(handler):
        wait_until(lambda: site.asked["/"] == 3)
        respond(handler, jpeg(int(handler.path[1])))

    site.answers |= {f"/{n}.jpg": wait_for_all for n in range(8)}
    items = [{"image_urls": [f"{site.url}/{n}.jpg" for n in range(8)]}]
    spiders = [{"name": name, "items": items} for name in ("a", "b", "c")]
    done = crawl(None, COMPONENTS[component] | {"IMGCACHE_TIMEOUT": 300}, spiders=spiders)
    assert site.images_asked().total() == 8
    assert sum(stats.get("imgcache/stored", 0) for stats in done.all_stats) == 8
    assert sum(stats.get("imgcache/hit", 0) for stats in done.all_stats) == 16


def test_pipelines_of_a_crawl_fetch_each_image_once(crawl, site):
    """Two subclasses of a pipeline and another pipeline use the same fields."""
    site.answers |= {f"/{n}.jpg": jpeg(n) for n in range(8)}
    pipelines = {
        "tests.support.custom.FirstFiles": 1,
        "tests.support.custom.SecondFiles": 2,
        "imgcache_scrapy.ImgCachePipeline": 3,
    }
    items = [{"image_urls": [f"{site.url}/{n}.jpg" for n in range(8)]}] * 2
    crawl(items, FILES | {"ITEM_PIPELINES": pipelines})
    assert site.images_asked().total() == 8


async def test_waiting_for_a_lock_has_a_time_limit():
    """After the time limit a waiter goes on without the lock, and does not release it."""
    locks, budget = KeyLocks.of("cache", "bucket"), MemoryBudget()
    first, second = Reservation(locks, budget), Reservation(locks, budget, 0.05)
    await first.acquire_lock("key")
    await second.acquire_lock("key")
    assert locks.lock("key").locked()
    second.release()
    assert locks.lock("key").locked()
    first.release()
    assert not locks.lock("key").locked()


async def test_locks_are_shared_while_they_are_used():
    """Callers with the same cache and bucket share locks, which are deleted after the last use."""
    locks = KeyLocks.of("cache", "bucket")
    assert KeyLocks.of("cache", "bucket") is locks
    assert KeyLocks.of("cache", "other") is not locks
    lock = locks.lock("key")
    await lock.acquire()
    del locks
    gc.collect()
    assert not KeyLocks.of("cache", "bucket").lock("key").locked()


def test_locks_belong_to_one_event_loop():
    """Each event loop has its own locks, because loops cannot share an asyncio lock."""

    async def locks():
        return KeyLocks.of("cache", "bucket")

    first = asyncio.run(locks())
    assert asyncio.run(locks()) is not first
