"""The sums over all rows: added up beside the other calls, and at the lowest priority."""

import asyncio
import os
import sys
import threading

import pytest

from imgcache_scrapy.engine.async_cache import AsyncImageCache
from imgcache_scrapy.engine.cache import ImageCache
from imgcache_scrapy.engine.catalog.catalog import Catalog
from tests.support.pictures import picture
from tests.support.waiting import PATIENCE


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has priorities of threads")
def test_nothing_waits_for_the_sums(folder, monkeypatch):
    """While sums are added up, lookups, lists and stores go on, before them for the processor."""
    begins, goes_on, priorities = threading.Event(), threading.Event(), []
    stats = Catalog.stats

    def slow_stats(catalog):
        priorities.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
        begins.set()
        assert goes_on.wait(PATIENCE)
        return stats(catalog)

    monkeypatch.setattr(Catalog, "stats", slow_stats)

    async def run():
        images = AsyncImageCache(lambda: ImageCache.in_folder(folder), ImageCache.close)
        await images.store("http://a.test/1", picture(), "me")
        summing = asyncio.create_task(images.state())
        assert await asyncio.to_thread(begins.wait, PATIENCE)
        assert await images.lookup("http://a.test/1") is not None
        assert (await images.gallery_page({})).entries
        await images.store("http://a.test/2", picture(2), "me")
        assert not summing.done()
        goes_on.set()
        state = await summing
        await images.aclose()
        return state

    state = asyncio.run(run())
    assert state.totals["images"] == 2
    assert state.hosts["a.test"]["captures"] == 2
    assert priorities == [19]
