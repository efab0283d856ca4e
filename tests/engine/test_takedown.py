"""Takedowns in the engine, on SQLite and PostgreSQL: batches, races, snapshots, old catalogs."""

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from threading import Barrier, Event

import pytest

from imgcache_scrapy.core.audit import Counts
from imgcache_scrapy.core.batches import batches
from imgcache_scrapy.core.blocked import Source
from imgcache_scrapy.core.entry import content_hash_of
from imgcache_scrapy.core.errors import BlockedError, CountChangedError
from imgcache_scrapy.core.image_url import ImageUrl
from imgcache_scrapy.core.selection import Selection
from imgcache_scrapy.engine.cache import ImageCache
from imgcache_scrapy.engine.catalog.removal import BATCH_SIZE
from imgcache_scrapy.engine.rebuild import rebuild
from imgcache_scrapy.engine.snapshots import snapshots_of
from imgcache_scrapy.engine.takedown import TakeDown
from tests.support import lists, many_captures, schema_3
from tests.support.schema_3 import OldCapture

OF_H = Selection.of({"host": "h.example"})
URL = "http://h.example/a.jpg"


@pytest.fixture
def any_cache(database_url, blobs_url):
    """Open an empty cache; once on SQLite, once on PostgreSQL."""
    with closing(ImageCache(database_url, blobs_url)) as cache:
        yield cache


def urls_of(host, count):
    """Return some URLs of a host."""
    return [f"http://{host}/{number}.gif" for number in range(count)]


def assert_whole(cache, tmp_path):
    """Assert that each image has its blob, and that there is no blob without an image."""
    stored = {path.parent.name + path.name for path in tmp_path.glob("blobs/*/*")}
    # PostgreSQL takes at most 65,535 values in a query.
    assert all(cache.catalog.known(some) == set(some) for some in batches(sorted(stored), 10_000))
    assert len(stored) == cache.catalog.stats()["images"]


def test_stores_go_on_between_the_batches(any_cache, tmp_path):
    """What other hosts store meanwhile stays; what the host stores meanwhile goes, too."""
    count = 2 * BATCH_SIZE + 10
    images = many_captures.fill(any_cache, tmp_path / "blobs", urls_of("h.example", count))
    takedown, steps = TakeDown(OF_H, "me"), 0
    while takedown.step(any_cache):
        steps += 1
        if steps == 1:
            # One whose blob is going to be deleted, and one whose capture is.
            for number in (0, count - 1):
                any_cache.store(f"http://other.example/{number}", images[number], "me")
            any_cache.store(f"{URL}?new", b"GIF89a new", "me")
            any_cache.store(f"http://h.example/{count - 2}.gif", images[count - 2], "me")
    assert steps > 3
    assert takedown.counts.captures == count + 1
    assert takedown.counts.images == count
    for number in (0, count - 1):
        name = content_hash_of(images[number])
        assert any_cache.get_image(name)[0] == images[number]
        assert [each["url"] for each in any_cache.catalog.captures_page(name).entries] == [
            f"http://other.example/{number}"
        ]
    assert any_cache.catalog.stats()["captures"] == 2
    assert_whole(any_cache, tmp_path)
    (act,) = any_cache.catalog.audit_page().entries
    assert (act["act"], act["actor"], act["filter"]) == ("take_down", "me", {"host": "h.example"})
    assert act["captures"] == count + 1


def test_a_capture_that_is_renewed_meanwhile_stays(any_cache):
    """A takedown by time leaves out what was fetched again since the batch was read."""
    any_cache.store(URL, b"GIF89a a", "me", lookup_time=many_captures.FETCHED)
    selection = Selection.of({}, before="2026-06-01")
    batch = any_cache.catalog.removable_after(selection, 0)
    any_cache.store(URL, b"GIF89a a", "me")
    removed = any_cache.catalog.remove(selection, batch)
    assert (removed.counts, removed.images) == (Counts(), [])
    assert any_cache.catalog.lookup_many([URL])


def test_a_takedown_that_was_interrupted_is_completed_by_the_next(any_cache, tmp_path):
    """The first one has no act in the audit list; the second one deletes the rest."""
    many_captures.fill(any_cache, tmp_path / "blobs", urls_of("h.example", BATCH_SIZE + 10))
    TakeDown(OF_H).step(any_cache)
    assert any_cache.catalog.stats()["captures"] == 10
    assert any_cache.catalog.audit_page().entries == []
    assert TakeDown(OF_H).run(any_cache).captures == 10
    assert any_cache.catalog.stats()["captures"] == 0
    (act,) = any_cache.catalog.audit_page().entries
    assert act["captures"] == 10


@pytest.mark.parametrize("rounds", [10, pytest.param(500, marks=pytest.mark.endurance)])
def test_a_block_of_a_host_and_a_store_cannot_miss_each_other(any_cache, tmp_path, rounds):
    """After the takedown nothing of the host is left, also if a store runs beside it."""

    def store(n, both):
        both.wait()
        try:
            any_cache.store(f"http://h{n}.example/a", b"GIF89a %d" % n, "me")
        except BlockedError:
            return False
        return True

    def take_down(n, both):
        both.wait()
        return TakeDown(Selection.of({"host": f"h{n}.example"}), block=True).run(any_cache)

    with ThreadPoolExecutor(2) as threads:
        for n in range(rounds):
            both = Barrier(2)
            calls = [threads.submit(each, n, both) for each in (store, take_down)]
            was_stored, counts = [call.result() for call in calls]
            assert counts.captures == was_stored
            assert not any_cache.catalog.lookup_many([f"http://h{n}.example/a"])
    assert_whole(any_cache, tmp_path)


def test_captures_without_a_host_are_found(database_url, blobs_url, tmp_path):
    """A takedown by host or URL fills the captures of older versions first; so does a dry run."""
    urls = [f"http://{host}/{n}?b=1&a=2" for n in range(20) for host in ("h.example", "b.example")]
    old = [OldCapture(url, b"GIF89a %d" % (n % 30)) for n, url in enumerate(urls)]
    schema_3.make(database_url, old, tmp_path / "blobs")
    with closing(ImageCache(database_url, blobs_url)) as cache:
        of_url = Selection.of({}, ImageUrl.of("http://h.example/0?a=2&b=1"))
        assert TakeDown(of_url).run(cache).captures == 1
        assert TakeDown(OF_H, dry_run=True).run(cache).captures == 19
        with pytest.raises(CountChangedError):
            TakeDown(OF_H, expected=20).run(cache)
        assert TakeDown(OF_H, expected=19).run(cache).captures == 19
        assert not any(
            "h.example" in each["url"] for each in lists.search(cache.catalog, "example")
        )
        assert cache.catalog.stats()["captures"] == 20
        assert_whole(cache, tmp_path)


def test_snapshots_do_not_keep_what_was_taken_down(folder):
    """The old snapshots are removed, and a new one has the other captures."""
    file = folder / "catalog.sqlite3"
    with closing(ImageCache.in_folder(folder)) as cache:
        cache.store(URL, b"GIF89a a", "me")
        cache.store("http://b.example/kept", b"GIF89a b", "me")
    (old,) = snapshots_of(file)
    old = old.rename(old.with_name("catalog-20260101T000000Z.sqlite3"))
    assert URL.encode() in old.read_bytes()
    with closing(ImageCache.in_folder(folder)) as cache:
        TakeDown(OF_H).run(cache)
    (new,) = snapshots_of(file)
    assert new != old
    assert URL.encode() not in new.read_bytes()
    assert b"http://b.example/kept" in new.read_bytes()


def test_blocks_and_audit_survive_a_rebuild(folder):
    """The new catalog has them, also if the old one is lost and a snapshot is left."""
    with closing(ImageCache.in_folder(folder)) as cache:
        cache.store(URL, b"GIF89a a", "me")
        cache.store("http://b.example/a", b"GIF89a b", "me")
    with closing(ImageCache.in_folder(folder)) as cache:
        TakeDown(OF_H, "me", block=True).run(cache)
        expected = _blocks_and_audit(cache)
        assert len(expected[0]) == len(expected[1]) == 1
        blobs = cache.blobs
    for is_lost in (False, True):
        if is_lost:
            (folder / "catalog.sqlite3").unlink()
        rebuild(folder / "catalog.sqlite3", blobs)
        with closing(ImageCache.in_folder(folder)) as cache:
            assert _blocks_and_audit(cache) == expected
            with pytest.raises(BlockedError):
                cache.store(URL, b"GIF89a a", "me")


def _blocks_and_audit(cache):
    return cache.catalog.blocked_sources_page().entries, cache.catalog.audit_page().entries


def test_lists_come_in_pages(any_cache):
    """The pages of blocked sources and of the audit list together are the whole list."""
    catalog = any_cache.catalog
    for n in range(5):
        catalog.block_source(Source("host", f"{n}.example"), "")
        catalog.unblock_source(Source("host", f"{n}.example"), f"{n}")
        catalog.block_source(Source("host", f"{n}.example"), "again")
    for read, name, expected in (
        (catalog.blocked_sources_page, "host", [f"{n}.example" for n in range(4, -1, -1)]),
        (catalog.audit_page, "actor", ["4", "3", "2", "1", "0"]),
    ):
        found, after = [], None
        while len(found) < 10:
            page = read(2, after)
            found += [each[name] for each in page.entries]
            after = page.after
            if after is None:
                break
        assert found == expected


@pytest.mark.parametrize(
    ("count", "is_timed"),
    [(1000, False), pytest.param(100_000, True, marks=pytest.mark.endurance)],
)
def test_a_host_with_a_tenth_of_the_captures_is_taken_down(any_cache, tmp_path, count, is_timed):
    """A takedown of 10,000 of 100,000 takes 5 s at most; lookups beside it take 50 ms at most."""
    hosts = [f"{'h' if n == 5 else n}.example" for n in range(10)]
    urls = [f"http://{hosts[n % 10]}/{n}.gif" for n in range(count)]
    ended, times = Event(), []

    def look_up():
        while not ended.is_set():
            began = time.perf_counter()
            assert any_cache.catalog.lookup_many(urls[:1])
            times.append(time.perf_counter() - began)
            time.sleep(0.001)

    many_captures.fill(any_cache, tmp_path / "blobs", urls)
    with ThreadPoolExecutor(1) as threads:
        looking = threads.submit(look_up)
        began = time.perf_counter()
        counts = TakeDown(OF_H, block=True).run(any_cache)
        seconds = time.perf_counter() - began
        ended.set()
        looking.result()
    assert counts[:2] == (count // 10, count // 10)
    assert any_cache.catalog.stats()["captures"] == count * 9 // 10
    assert_whole(any_cache, tmp_path)
    if is_timed:
        assert seconds <= 5
        assert sorted(times)[len(times) * 99 // 100] <= 0.05
