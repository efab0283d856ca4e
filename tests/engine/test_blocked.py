"""Blocked images in the engine, on SQLite and PostgreSQL."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from threading import Barrier

import pytest

from imgcache_scrapy.core.entry import content_hash_of
from imgcache_scrapy.core.errors import BlockedError
from imgcache_scrapy.engine.cache import ImageCache
from imgcache_scrapy.engine.store_request import StoreRequest
from tests.support import lists
from tests.support.pictures import jpeg

URL = "http://h.example/a.jpg"


@pytest.fixture
def any_cache(database_url, blobs_url):
    """Open an empty cache; once on SQLite, once on PostgreSQL."""
    with closing(ImageCache(database_url, blobs_url)) as cache:
        yield cache


@pytest.mark.parametrize("rounds", [10, pytest.param(1000, marks=pytest.mark.endurance)])
def test_a_block_and_a_store_cannot_miss_each_other(any_cache, rounds):
    """Either the store is first and the entry is blocked, or the store is refused without trace."""

    def store(n, both):
        both.wait()
        try:
            return any_cache.store(f"{URL}?{n}", jpeg(n), "me")
        except BlockedError:
            return None

    def block(n, both):
        both.wait()
        any_cache.catalog.block(content_hash_of(jpeg(n)), "")

    with ThreadPoolExecutor(2) as threads:
        for n in range(rounds):
            both, name = Barrier(2), content_hash_of(jpeg(n))
            calls = [threads.submit(each, n, both) for each in (store, block)]
            entry, _ = [call.result() for call in calls]
            found = any_cache.catalog.lookup_many([f"{URL}?{n}"])
            if entry is None:
                assert not found
                assert any_cache.blobs.sizes([name])[name] is None
            else:
                assert any_cache.catalog.get_meta(name)["blocked"] is True


def test_only_the_blocked_images_of_a_batch_fail(any_cache):
    """The others are stored, in the same call."""
    any_cache.catalog.block(content_hash_of(jpeg(1)), "")
    stores = [StoreRequest.of(f"{URL}?{n}", jpeg(n % 2), "me") for n in range(4)]
    results = any_cache.store_many(stores)
    assert [isinstance(each, BlockedError) for each in results] == [False, True, False, True]
    assert any_cache.catalog.stats()["images"] == 1
    (alone,) = any_cache.store_many(stores[1:2])
    assert isinstance(alone, BlockedError)


def test_the_list_of_blocked_images_comes_in_pages(any_cache):
    """The pages together are the whole list; none is missing and none comes twice."""
    catalog = any_cache.catalog
    names = [content_hash_of(bytes([n])) for n in range(5)]
    for name in names:
        catalog.block(name, "")
    first = catalog.blocked_page(2)
    assert len(first.entries) == 2
    rest = lists.all_pages(lambda _, after: catalog.blocked_page(2, after or first.after), None)
    assert [each["content_hash"] for each in first.entries + rest] == names[::-1]
