"""Old captures get their keys and hosts in batches, while others look up and store."""

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime
from threading import Event

import pytest
import sqlalchemy as sa

from imgcache_scrapy.core.entry import content_hash_of
from imgcache_scrapy.core.errors import ConfigurationError
from imgcache_scrapy.core.image_url import ImageUrl
from imgcache_scrapy.core.keys import cache_key
from imgcache_scrapy.core.urls import host_of
from imgcache_scrapy.engine.cache import ImageCache
from imgcache_scrapy.engine.catalog.rows import digest
from imgcache_scrapy.engine.lookup import lookup_many
from imgcache_scrapy.engine.upkeep import Upkeep
from tests.support import lists, schema_1, schema_3
from tests.support.programs import program
from tests.support.schema_3 import OldCapture

A, B = b"GIF89a: A", b"GIF89a: B"
SIGNED = "https://x.storage.test/a.jpg?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=c"
SIGNED += "&X-Amz-Date=20260101T000000Z&X-Amz-Expires=60&X-Amz-SignedHeaders=host&X-Amz-Signature="
MANY = [2500, pytest.param(1_000_000, marks=pytest.mark.endurance)]


def old_url(number):
    """Return the URL of an old capture: every third one is not its own key."""
    tail = "" if number % 3 else "&a=1"
    return f"https://{number % 100}.example/{number}.jpg?b={number}{tail}"


def make(database_url, tmp_path, count):
    """Create an old catalog with many captures of ten images."""
    captures = (OldCapture(old_url(n), b"GIF89a %d" % (n % 10)) for n in range(count))
    schema_3.make(database_url, captures, tmp_path / "blobs")


def rows_of(database_url):
    """Return id, URL, key, host and digest of each capture."""
    with schema_1.connected(database_url) as connection:
        query = "SELECT id, url, key, host, url_digest FROM capture ORDER BY id"
        return [(*row[:4], bytes(row[4])) for row in connection.execute(query)]


def assert_filled(database_url, count):
    """Assert that each capture has what a store of its URL writes today."""
    rows = rows_of(database_url)
    assert len(rows) >= count
    for _, url, key, host, its_digest in rows:
        default = cache_key(url)
        assert (key or url, its_digest) == (default, digest(default))
        assert (key is None, host) == (default == url, host_of(url))


@pytest.mark.parametrize("count", MANY)
def test_old_captures_are_hits_before_and_after(database_url, blobs_url, tmp_path, count):
    """Opening fills nothing; a lookup asks for both spellings. Then all rows are filled."""
    make(database_url, tmp_path, count)
    urls = [ImageUrl.of(old_url(number)) for number in range(0, count, max(1, count // 300))]
    began = time.process_time()
    with closing(ImageCache(database_url, blobs_url)) as cache:
        # Not the time of the clock, because the machine may be busy.
        assert time.process_time() - began < 3
        before = cache.catalog.stats()

        def assert_hits():
            keys = [key for url in urls for key in url.keys]
            found = {
                key: entry
                for start in range(0, len(keys), 500)
                for key, entry in lookup_many(
                    cache, keys[start : start + 500], None
                ).entries.items()
            }
            assert [url.newest(found)["url"] for url in urls] == [url.url for url in urls]

        assert_hits()
        assert cache.catalog.count_unfilled() == count
        assert sum(Upkeep(cache).fill_keys()) == count
        assert cache.catalog.count_unfilled() == 0
        assert list(Upkeep(cache).fill_keys()) == []
        assert_hits()
        assert cache.catalog.stats() == before
        assert not cache.catalog.damage()
    assert_filled(database_url, count)


@pytest.mark.parametrize("count", MANY)
def test_crawls_go_on_while_old_captures_are_filled(database_url, blobs_url, tmp_path, count):
    """Threads look up and store meanwhile: each old URL is a hit at any time, no store fails."""
    make(database_url, tmp_path, count)
    done = Event()

    def crawl(name):
        stored, looked_up = 0, 0
        with closing(ImageCache(database_url, blobs_url)) as cache:
            while not done.is_set() or not stored:
                url = ImageUrl.of(old_url((looked_up * 7919 + name) % count))
                found = lookup_many(cache, url.keys, None).entries
                assert url.newest(found)["content_hash"], url
                # What is known is stored again, or with another signature, as new images are.
                cache.store(url.url, b"GIF89a %d" % (looked_up % 10), "crawl", key=url.key)
                cache.store(f"https://new.example/{name}/{stored}", A, "crawl")
                stored, looked_up = stored + 1, looked_up + 1
        return stored

    with closing(ImageCache(database_url, blobs_url)) as cache, ThreadPoolExecutor(3) as threads:
        crawls = [threads.submit(crawl, name) for name in range(3)]
        try:
            filled = sum(Upkeep(cache).fill_keys())
        finally:
            done.set()
        stored = [each.result() for each in crawls]
        assert 0 < filled <= count
        assert cache.catalog.count_unfilled() == 0
        for name, number in enumerate(stored):
            urls = [f"https://new.example/{name}/{each}" for each in range(number)][-500:]
            assert len(lookup_many(cache, urls, None).entries) == len(urls)
    assert_filled(database_url, count)


FILL = """
from imgcache_scrapy.engine.upkeep import Upkeep

sys.stdin.readline()
cache = ImageCache(*sys.argv[1:])
for count in Upkeep(cache).fill_keys():
    print(count, flush=True)
"""


@pytest.mark.parametrize("count", MANY)
def test_a_filling_that_was_killed_goes_on(database_url, blobs_url, tmp_path, count):
    """What was reported is durable, and the next run fills the rest."""
    make(database_url, tmp_path, count)
    with program(FILL, database_url, blobs_url) as process:
        process.stdin.write("go\n")
        reported = int(process.stdout.readline())
        process.kill()
    with closing(ImageCache(database_url, blobs_url)) as cache:
        missing = cache.catalog.count_unfilled()
        assert missing <= count - reported
        assert sum(Upkeep(cache).fill_keys()) == missing
        assert not cache.catalog.damage()
    assert_filled(database_url, count)


def test_the_newest_capture_stays_the_newest(database_url, blobs_url, tmp_path):
    """A capture that this version made under the key is newer than old ones that get the key."""
    old = [OldCapture(f"{SIGNED}1", A), OldCapture(f"{SIGNED}2", B), OldCapture(f"{SIGNED}1", B)]
    schema_3.make(database_url, old, tmp_path / "blobs")
    url = ImageUrl.of(f"{SIGNED}3")
    with closing(ImageCache(database_url, blobs_url)) as cache:
        assert url.key not in cache.catalog.lookup_many([url.key])
        cache.store(url.url, A, "new", key=url.key)
        # A store of an image that was fetched before all of these.
        cache.store(
            f"{url.url}&", B, "new", key=url.key, lookup_time=datetime(2000, 1, 1, tzinfo=UTC)
        )
        assert sum(Upkeep(cache).fill_keys()) == 3
        found = lists.history(cache.catalog, [url.key])
        assert [(each["client_name"], each["content_hash"]) for each in found] == [
            ("new", content_hash_of(A)),
            ("old", content_hash_of(B)),
            ("old", content_hash_of(B)),
            ("old", content_hash_of(A)),
            ("new", content_hash_of(B)),
        ]
        assert cache.catalog.lookup_many([url.key])[url.key] == found[0]
        entry = cache.store(url.url, A, "new", key=url.key)
        assert entry["created_at"] == found[0]["created_at"]
        assert len(lists.history(cache.catalog, [url.key])) == 5


def test_odd_urls_are_filled(database_url, blobs_url, tmp_path):
    """A URL that no key can be computed for keeps itself as key; its host may be empty."""
    urls = ["data:image/gif;base64,R0lGODlh", "//", "http://[", "http://a.test/#", "ü", "a b"]
    urls.append("http://me:secret@a.test/private")
    schema_3.make(database_url, (OldCapture(url, A) for url in urls), tmp_path / "blobs")
    with closing(ImageCache(database_url, blobs_url)) as cache:
        assert sum(Upkeep(cache).fill_keys()) == len(urls)
        assert cache.catalog.count_unfilled() == 0
        for url, key, host in [row[1:4] for row in rows_of(database_url)]:
            assert host == host_of(url)
            assert cache.catalog.lookup_many([key or url])[key or url]["url"] == url
        # A user and a password make a URL private: nobody finds it by the public one.
        assert not cache.catalog.lookup_many(["http://a.test/private"])


def test_rows_that_a_store_has_locked_come_later(postgresql, blobs_url, tmp_path):
    """In PostgreSQL, a batch does not wait for the rows of a store, and so causes no deadlock."""
    database_url = postgresql.new_database()
    make(database_url, tmp_path, 20)
    with closing(ImageCache(database_url, blobs_url)) as cache:
        upkeep, engine = Upkeep(cache), sa.create_engine(database_url)
        with engine.begin() as connection:
            connection.execute(sa.text("UPDATE capture SET client_name = 'x' WHERE id < 8"))
            assert sum(upkeep.fill_keys()) == 13
        engine.dispose()
        assert sum(upkeep.fill_keys()) == 7
    assert_filled(database_url, 20)


def test_a_crawl_with_other_keys_renews_old_captures(database_url, blobs_url, tmp_path):
    """It may name the URL itself as key: its store fills the capture, and keeps it so."""
    url = old_url(0)
    schema_3.make(database_url, [OldCapture(url, A)], tmp_path / "blobs")
    with closing(ImageCache(database_url, blobs_url)) as cache:
        cache.store(url, A, "own keys", key=url)
        assert list(Upkeep(cache).fill_keys()) == []
        assert cache.catalog.lookup_many([url])[url]["client_name"] == "own keys"
    assert rows_of(database_url) == [(1, url, None, host_of(url), digest(url))]


def test_an_old_catalog_with_other_blobs_stays_as_it_is(database_url, blobs_url, tmp_path):
    """The id of the blobs is checked before the upgrade; without one, blobs are looked for."""
    make(database_url, tmp_path, 20)
    owner = tmp_path / "blobs" / "cache_id"
    for name in ("4" * 32, None):
        if name is None:
            owner.unlink()
            for path in (tmp_path / "blobs").glob("*/*"):
                path.unlink()
        else:
            owner.write_text(name)
        with pytest.raises(ConfigurationError):
            ImageCache(database_url, blobs_url)
        with schema_1.connected(database_url) as connection:
            query = "SELECT number FROM imgcache_schema"
            assert connection.execute(query).fetchone() == (3,)
