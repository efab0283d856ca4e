"""The sums of the state page: kept for a minute, and not waited for at the end of the service."""

import asyncio
import threading

import pytest

from imgcache_scrapy.engine.async_cache import AsyncImageCache
from imgcache_scrapy.engine.cache import ImageCache
from imgcache_scrapy.engine.catalog.catalog import Catalog
from imgcache_scrapy.server.ui import state_keeper
from imgcache_scrapy.server.ui.state_keeper import StateKeeper
from tests.support.pictures import picture
from tests.support.waiting import PATIENCE


@pytest.fixture
def open_images(tmp_path):
    """Return a function that opens an empty cache."""
    return lambda: AsyncImageCache(
        lambda: ImageCache.in_folder(tmp_path / "cache"), ImageCache.close
    )


async def test_sums_are_kept_for_a_minute(open_images, monkeypatch):
    """A second page has the same sums; after a minute, they are added up again."""
    images = open_images()
    keeper = StateKeeper(images)
    monkeypatch.setattr(state_keeper, "_WAIT_SECONDS", PATIENCE)
    await images.store("http://a.test/1", picture(), "me")
    assert (await keeper.state()).totals["images"] == 1
    await images.store("http://a.test/2", picture(2), "me")
    assert (await keeper.state()).totals["images"] == 1
    monkeypatch.setattr(keeper, "_due_at", 0)
    assert (await keeper.state()).totals["images"] == 2
    await keeper.aclose()
    await images.aclose()


async def test_the_end_waits_for_one_sum_only(open_images, monkeypatch):
    """A service that ends while it adds up makes no further sum."""
    begins, goes_on, growth = threading.Event(), threading.Event(), []
    stats = Catalog.stats

    def slow_stats(catalog):
        begins.set()
        assert goes_on.wait(PATIENCE)
        return stats(catalog)

    monkeypatch.setattr(Catalog, "stats", slow_stats)
    monkeypatch.setattr(Catalog, "growth", lambda _: growth.append(1))
    images = open_images()
    keeper = StateKeeper(images)
    assert await keeper.state() is None
    assert await asyncio.to_thread(begins.wait, PATIENCE)
    await keeper.aclose()
    goes_on.set()
    await images.aclose()
    assert growth == []
    assert keeper.last is None
