"""Pruning, the size cap, and the last use of images, which decides what goes first."""

import logging
import threading
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from imgcache_scrapy import ImgCacheClient
from imgcache_scrapy.core.entry import blob_key, content_hash_of
from imgcache_scrapy.engine.cache import ImageCache
from imgcache_scrapy.engine.catalog.rows import today
from imgcache_scrapy.engine.catalog.tables import image, schema
from imgcache_scrapy.engine.pruning import prune
from tests.support import lists, schema_3
from tests.support.schema_3 import OldCapture

SIZE = 1000


def picture(number: int) -> bytes:
    """Return bytes that are no picture, of a known size."""
    return f"{number:08}".encode() * (SIZE // 8)


def name_of(number: int) -> str:
    """Return the hash of `picture(number)`."""
    return content_hash_of(picture(number))


def fill(cache: ImageCache, days: dict[int, int | None]) -> None:
    """Store pictures, each last used some days ago; None for a last use that is not known."""
    for number in days:
        cache.store(f"http://a.test/{number}", picture(number), "me")
    set_days(cache, days)


def set_days(cache: ImageCache, days: dict[int, int | None]) -> None:
    """Set the last use of pictures, in days before today."""
    with cache.catalog.exclusive([]) as transaction:
        for number, ago in days.items():
            day = None if ago is None else today() - ago
            is_it = image.c.content_hash == name_of(number)
            transaction.connection.execute(image.update().where(is_it).values(last_used=day))


def days_ago(cache: ImageCache) -> dict[str, int | None]:
    """Return how many days ago each image was used."""
    with cache.catalog.exclusive([]) as transaction:
        rows = transaction.connection.execute(sa.select(image.c.content_hash, image.c.last_used))
        return {name: None if day is None else today() - day for name, day in rows}


def left(cache: ImageCache) -> list[int]:
    """Return the numbers of the pictures that the cache still has, with their bytes."""
    urls = {f"http://a.test/{number}": number for number in range(100)}
    found = cache.catalog.lookup_many(urls)
    for entry in found.values():
        assert cache.get_image(entry["content_hash"])
    return sorted(urls[url] for url in found)


def pruned(cache: ImageCache, **rules: object) -> int:
    """Prune after a dry run with the same numbers; return the number of removed images."""
    dry = [sum(each) for each in zip(*prune(cache, **rules, dry_run=True), strict=True)]
    before = cache.catalog.stats()
    done = [sum(each) for each in zip(*prune(cache, **rules), strict=True)]
    after = cache.catalog.stats()
    assert dry == done
    images, size = done or (0, 0)
    assert (before["images"] - after["images"], before["bytes"] - after["bytes"]) == (images, size)
    return images


@pytest.fixture
def cache(database_url: str, blobs_url: str):
    """Open a cache in each database."""
    with closing(ImageCache(database_url, blobs_url)) as cache:
        yield cache


def test_the_least_recently_used_images_go_first(cache):
    """A maximum size removes as few images as possible, never those of today."""
    fill(cache, {0: 0, 1: 1, 2: 5, 3: 3, 4: 0})
    assert pruned(cache, max_bytes=5 * SIZE) == 0
    assert pruned(cache, max_bytes=4 * SIZE - 1) == 2
    assert left(cache) == [0, 1, 4]
    assert pruned(cache, max_bytes=0) == 1
    assert left(cache) == [0, 4]


def test_images_that_were_used_in_the_future_may_go(cache):
    """A clock that was wrong keeps no image; tomorrow may be the today of another clock."""
    fill(cache, {0: -1, 1: 1, 2: -3650, 3: -2, 4: 0})
    assert pruned(cache, max_bytes=3 * SIZE) == 2
    assert left(cache) == [0, 2, 4]
    assert pruned(cache, max_bytes=0) == 1
    assert left(cache) == [0, 4]


def test_unused_and_old_images_go(cache):
    """`unused_for` reads the last use, `older_than` the newest fetch; either is enough."""
    fill(cache, {0: 89, 1: 90, 2: 91, 3: 2, 4: 0})
    old = datetime.now(UTC) - timedelta(days=400)
    for number in (5, 6):
        cache.store(f"http://a.test/{number}", picture(number), "me", lookup_time=old)
    cache.store("http://b.test/again", picture(6), "me")
    set_days(cache, {5: 1, 6: 1})
    assert pruned(cache, unused_for=timedelta(days=90)) == 1
    assert pruned(cache, older_than=timedelta(days=365)) == 1
    assert left(cache) == [0, 1, 3, 4, 6]
    rules = {"unused_for": timedelta(days=80), "max_bytes": 2 * SIZE}
    assert pruned(cache, **rules) == 3
    assert left(cache) == [4, 6]


def test_an_unknown_last_use_is_the_day_of_the_upgrade(cache):
    """Images that were not used since the upgrade are as old as the upgrade."""
    fill(cache, {0: None, 1: 5, 2: 15})
    with cache.catalog.exclusive([]) as transaction:
        transaction.connection.execute(schema.update().values(used_since=today() - 10))
    assert pruned(cache, max_bytes=2 * SIZE) == 1
    assert left(cache) == [0, 1]
    assert pruned(cache, unused_for=timedelta(days=9)) == 1
    assert left(cache) == [1]


def test_the_images_of_an_older_catalog_stay_on_the_day_of_the_upgrade(tmp_path):
    """An upgrade makes nothing look unused."""
    database_url = f"sqlite:///{tmp_path / 'catalog.sqlite3'}"
    schema_3.make(database_url, [OldCapture("http://a.test/0", picture(0))], tmp_path / "blobs")
    with closing(ImageCache(database_url, (tmp_path / "blobs").as_uri())) as cache:
        assert days_ago(cache) == {name_of(0): None}
        assert pruned(cache, max_bytes=0) == 0


def test_all_captures_and_the_bytes_of_an_image_go(folder):
    """Nothing is left of a pruned image, whatever number of URLs it has."""
    with closing(ImageCache.in_folder(folder)) as cache:
        fill(cache, {0: 1})
        cache.store("http://b.test/", picture(0), "me", bucket="b")
        set_days(cache, {0: 1})
        assert pruned(cache, max_bytes=0) == 1
        assert cache.catalog.stats()["captures"] == 0
    assert not (folder / "blobs" / blob_key(name_of(0))).exists()


def test_lookups_and_reads_are_uses(folder):
    """What a client finds, reads or stores again is used today; the rest is not."""
    with closing(ImageCache.in_folder(folder)) as cache:
        fill(cache, dict.fromkeys(range(5), 9))
        with ImgCacheClient(str(folder)) as client:
            client.lookup("http://a.test/0")
            client.lookup_many(["http://a.test/1", "http://a.test/unknown"])
            client.get_bytes(name_of(2))
            client.claim("http://b.test/", name_of(3), "me")
        used = {name_of(number): 0 for number in range(4)} | {name_of(4): 9}
        assert days_ago(cache) == used


def test_a_use_between_listing_and_removal_saves_an_image(cache):
    """An image that is used after it was listed stays."""
    fill(cache, {number: 200 - number for number in range(101)})
    removals = prune(cache, max_bytes=0)
    assert next(removals).images == 100
    set_days(cache, {100: 0})
    assert sum(each.images for each in removals) == 0
    assert cache.catalog.lookup_many(["http://a.test/100"])


def test_a_cap_is_held_while_images_are_stored(folder):
    """Each store makes room for itself; the images of earlier days go, oldest first."""
    with closing(ImageCache.in_folder(folder)) as cache:
        fill(cache, {number: 60 - number for number in range(20)})
        with ImgCacheClient(str(folder), max_bytes=20 * SIZE) as client:
            for number in range(20, 30):
                client.store(f"http://a.test/{number}", picture(number), "me")
                assert cache.catalog.total_bytes() <= 20 * SIZE
        assert len(left(cache)) >= 19
        assert left(cache)[-19:] == list(range(11, 30))


def test_a_cap_spares_what_this_process_has_just_used(folder):
    """A use counts before it is recorded, which takes some seconds."""
    with closing(ImageCache.in_folder(folder)) as cache:
        fill(cache, {number: 60 - number for number in range(4)})
        with ImgCacheClient(str(folder), max_bytes=4 * SIZE) as client:
            assert client.lookup("http://a.test/0")
            client.store("http://a.test/4", picture(4), "me")
        assert left(cache) == [0, 3, 4]
        assert days_ago(cache)[name_of(0)] == 0


def test_the_images_of_today_may_exceed_a_cap(folder, caplog):
    """None of them is removed; there is one warning."""
    with (
        ImgCacheClient(str(folder), max_bytes=2 * SIZE) as client,
        caplog.at_level(logging.WARNING),
    ):
        for number in range(6):
            client.store(f"http://a.test/{number}", picture(number), "me")
        assert client.stats()["images"] == 6
    assert len([record for record in caplog.records if "may have" in record.message]) == 1


def test_two_writers_share_a_cap(folder):
    """Each of them sees what the other one stores; no row is left without its bytes."""
    cap = 200 * SIZE
    with closing(ImageCache.in_folder(folder)) as cache:
        fill(cache, dict.fromkeys(range(90), 99))

    def write(first: int) -> None:
        with closing(ImageCache.in_folder(folder)) as own:
            for number in range(first, first + 100):
                own.store(f"http://b.test/{number}", picture(number), "me")
                for _ in prune(own, max_bytes=cap):
                    pass

    writers = [threading.Thread(target=write, args=(first,)) for first in (1000, 2000)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    with closing(ImageCache.in_folder(folder)) as cache:
        assert cache.catalog.total_bytes() == cap
        assert blobs_in(folder) == {entry["content_hash"] for entry in all_entries(cache)}


def blobs_in(folder: Path) -> set[str]:
    """Return the hashes of the blobs in a folder."""
    return {f"{path.parent.name}{path.name}" for path in folder.glob("blobs/??/*")}


def all_entries(cache: ImageCache) -> list[dict]:
    """Return the newest capture of each URL."""
    return lists.search(cache.catalog, "http")
