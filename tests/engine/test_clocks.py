"""Wrong clocks: a time in the future pins no image to a URL, on both databases."""

from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from imgcache_scrapy.core.entry import content_hash_of
from imgcache_scrapy.core.times import microseconds
from imgcache_scrapy.engine.cache import ImageCache
from tests.support import lists

URL = "http://a.test/image"
A, B, C = b"image a", b"image b", b"image c"
END = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)


@pytest.fixture
def cache(database_url, blobs_url):
    with closing(ImageCache(database_url, blobs_url)) as cache:
        yield cache


def ago(**time):
    return datetime.now(UTC) - timedelta(**time)


def store(cache, data, at=None, url=URL, bucket=""):
    return cache.store(url, data, "test", lookup_time=at, bucket=bucket)


def set_times(cache, data, seen, created=None):
    """Change the times of the captures of an image, as an older version may have written them."""
    values = {"lookup_time": microseconds(seen)}
    if created is not None:
        values["created_at"] = microseconds(created)
    capture = sa.table("capture", *map(sa.column, ("content_hash", "lookup_time", "created_at")))
    with cache.catalog._engine.begin() as connection:
        changed = connection.execute(
            capture.update().where(capture.c.content_hash == content_hash_of(data)).values(values)
        )
        assert changed.rowcount


def newest(cache, url=URL, bucket=None):
    """Return the hash that lookup and search give for a URL, which must be the same."""
    entry = cache.catalog.lookup_many([url], bucket).get(url)
    (searched,) = lists.search(cache.catalog, url, bucket)
    assert entry == searched
    assert datetime.fromisoformat(entry["lookup_time"]) <= datetime.now(UTC)
    return entry["content_hash"]


@pytest.mark.parametrize("at", [END, datetime.now(UTC) + timedelta(days=1)])
def test_a_time_ahead_of_the_clock_becomes_the_present(cache, at):
    """A store from the future is a store of now, and the next store is newer."""
    before = datetime.now(UTC)
    entry = store(cache, A, at)
    assert before <= datetime.fromisoformat(entry["lookup_time"]) <= datetime.now(UTC)
    assert entry["lookup_time"] == entry["created_at"]
    store(cache, B)
    assert newest(cache) == content_hash_of(B)
    assert datetime.fromisoformat(store(cache, B, at)["lookup_time"]) <= datetime.now(UTC)


def test_times_in_the_future_that_exist_are_ordered_by_the_creation(cache):
    """Such a row hides no capture that was made after it, before and after the next store."""
    store(cache, A)
    store(cache, B)
    assert newest(cache) == content_hash_of(B)
    set_times(cache, A, END)
    assert newest(cache) == content_hash_of(B)
    set_times(cache, B, END)
    assert newest(cache) == content_hash_of(B)
    store(cache, C)
    assert newest(cache) == content_hash_of(C)
    rows = cache.catalog._engine.connect()
    with closing(rows):
        times = rows.execute(sa.text("SELECT lookup_time, created_at FROM capture")).all()
    assert len(times) == 3
    assert all(seen <= created for seen, created in times)


def test_search_and_meta_order_such_times_too(cache):
    """In lists of several URLs a row from the future has the place of its creation."""
    for number, data in enumerate((A, B, C)):
        store(cache, data, url=f"{URL}/{number}")
    store(cache, A, url=f"{URL}/again")
    set_times(cache, B, END)
    found = [entry["url"] for entry in lists.search(cache.catalog, "a.test")]
    assert found == [f"{URL}/{name}" for name in ("again", 2, 1, 0)]
    assert lists.search(cache.catalog, "a.test", limit=1)[0]["url"] == f"{URL}/again"
    set_times(cache, A, END)
    assert cache.catalog.get_meta(content_hash_of(A))["url"] == f"{URL}/again"


def test_a_clock_that_was_wrong_pins_nothing(cache):
    """If the cache's own clock was years ahead, the next store is the newest all the same."""
    store(cache, A)
    set_times(cache, A, END, END - timedelta(days=1))
    store(cache, B)
    assert newest(cache) == content_hash_of(B)


def test_a_renewed_capture_is_ordered_by_its_last_lookup(cache):
    """Captures are renewed after their creation, and that is no wrong clock."""
    store(cache, A, ago(hours=3), bucket="one")
    store(cache, B, ago(hours=2), bucket="two")
    assert newest(cache) == content_hash_of(B)
    store(cache, A, ago(hours=1), bucket="one")
    assert newest(cache) == content_hash_of(A)
    set_times(cache, A, ago(hours=1), ago(hours=3))
    set_times(cache, B, ago(hours=2), ago(hours=2))
    assert newest(cache) == content_hash_of(A)


@pytest.mark.parametrize("damaged", [(C,), (B, C), (C, A)])
def test_a_damaged_capture_hides_no_older_one(cache, damaged):
    """The newest capture whose image is sound answers, in lookups and in searches."""
    for hours, data in ((3, A), (2, B), (1, C)):
        store(cache, data, ago(hours=hours))
    for data in damaged:
        with cache.catalog.exclusive([content_hash_of(data)]) as transaction:
            transaction.mark_damaged(content_hash_of(data))
    sound = [data for data in (A, B, C) if data not in damaged]
    assert newest(cache) == content_hash_of(sound[-1])
    store(cache, C, ago(minutes=1))
    assert newest(cache) == content_hash_of(C)
