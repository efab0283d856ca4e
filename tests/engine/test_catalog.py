"""The catalog: captures of URLs, newest first, and transactions that exclude each other."""

import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError

from imgcache_scrapy.core.entry import content_hash_of
from imgcache_scrapy.core.errors import ConfigurationError
from imgcache_scrapy.engine.catalog.catalog import Catalog
from imgcache_scrapy.engine.catalog.rows import Capture, Image
from imgcache_scrapy.engine.catalog.tables import SCHEMA
from tests.support import lists

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
IN_MEMORY = "sqlite://"
PAGE = "http://a.test/page.jpg"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "catalog.sqlite3"


@pytest.fixture
def catalog(path):
    with closing(open_catalog(path)) as catalog:
        yield catalog


def open_catalog(path):
    return Catalog(URL.create("sqlite", database=str(path)))


def hash_of(name):
    """Return the content hash of an image that has a name and no bytes."""
    return content_hash_of(name.encode())


def record(catalog, name, *, url=PAGE, bucket="", at=NOON, perceptual_hash=None):
    """Record an image and a capture of it; `at` is a time, or a number of hours after noon."""
    time = at if isinstance(at, datetime) else NOON + timedelta(hours=at)
    text = None if perceptual_hash is None else f"{perceptual_hash:016x}"
    image = Image(hash_of(name), "image/png", 10, 4, 3, text)
    with catalog.exclusive([hash_of(name)]) as writing:
        return writing.record([(image, Capture(url, bucket, "test", None, time))])[0]


def newest(catalog, url=PAGE, bucket=None):
    entry = catalog.lookup_many([url], bucket).get(url)
    return entry and entry["content_hash"]


@pytest.mark.parametrize(
    ("history", "expected"),
    [
        ([("a", 0), ("b", 1)], "b"),
        ([("a", 1), ("b", 0)], "a"),
        ([("a", 0), ("b", 0)], "b"),
        ([("a", 0), ("b", 1), ("a", 2)], "a"),
        ([("a", 0), ("b", 2), ("a", 1)], "b"),
        ([("a", 0), ("b", 1), ("a", 1)], "a"),
    ],
)
def test_the_newest_capture_has_the_latest_time_then_the_latest_insertion(
    catalog, history, expected
):
    """An older capture recorded later is not the newest; with equal times the last one is."""
    for name, at in history:
        record(catalog, name, at=at)
    assert newest(catalog) == hash_of(expected)


@pytest.mark.parametrize(
    ("history", "captures"), [("aaa", 1), ("ab", 2), ("aba", 3), ("aabbaa", 3)]
)
def test_only_a_new_image_adds_a_capture(catalog, history, captures):
    """The same image under the same URL renews the newest capture, another image adds one."""
    for at, name in enumerate(history):
        record(catalog, name, at=at)
    assert catalog.stats()["captures"] == captures


def test_a_renewed_capture_keeps_its_creation_time(catalog):
    """Recording the image again may move the capture's time forward, never back."""
    first = record(catalog, "a", at=1)
    later = record(catalog, "a", at=5)
    earlier = record(catalog, "a", at=3)
    assert first["created_at"] == later["created_at"] == earlier["created_at"]
    assert later["lookup_time"] == earlier["lookup_time"] == "2026-06-01T17:00:00+00:00"


@given(
    time=st.datetimes(
        timezones=st.integers(-23, 23).map(lambda h: timezone(timedelta(hours=h))),
        min_value=datetime(1, 1, 2),  # noqa: DTZ001
        max_value=datetime(2026, 6, 1, 23, 59, 59, 999999),  # noqa: DTZ001
    )
)
def test_times_are_kept_to_the_microsecond(time):
    """A past time of any century and zone comes back exactly, in UTC."""
    with closing(Catalog(IN_MEMORY)) as catalog:
        entry = record(catalog, "a", at=time)
    assert entry["lookup_time"] == time.astimezone(UTC).isoformat()


@given(
    observed=st.lists(
        st.tuples(st.sampled_from("ab"), st.sampled_from("xyz"), st.integers(0, 3)), max_size=8
    ),
    size=st.integers(1, 8),
)
def test_a_batch_of_records_equals_single_records(observed, size):
    """A batch gives the same entries and captures as single records, also with duplicates."""

    def recorded(at_once):
        entries = []
        with closing(Catalog(IN_MEMORY)) as catalog:
            for start in range(0, len(observed), at_once):
                pairs = [
                    (
                        Image(hash_of(name), "image/png", 10, 4, 3, None),
                        Capture(url, "", f"{hour}", None, NOON + timedelta(hours=hour)),
                    )
                    for name, url, hour in observed[start : start + at_once]
                ]
                with catalog.exclusive({image.content_hash for image, _ in pairs}) as writing:
                    entries += writing.record(pairs)
            found = catalog.lookup_many("xyz"), catalog.stats()
        for entry in [*entries, *found[0].values()]:
            del entry["created_at"]
        return entries, found

    assert recorded(size) == recorded(1)


def test_an_image_is_created_once(catalog):
    """Only the first record of an image reports `created`, until the image is deleted."""
    assert [record(catalog, "a", url=f"{PAGE}?{i}")["created"] for i in range(3)] == [True] + [
        False
    ] * 2
    with catalog.exclusive([hash_of("a")]) as writing:
        assert writing.delete_captures(hash_of("a"), "") == 3
    assert record(catalog, "a")["created"]


def test_an_image_is_deleted_with_its_last_capture(catalog):
    """An image keeps its row as long as some bucket has a capture of it."""
    for bucket in ("one", "two"):
        record(catalog, "a", bucket=bucket)
    for bucket, is_left in [("three", True), ("one", True), ("two", False)]:
        with catalog.exclusive([hash_of("a")]) as writing:
            writing.delete_captures(hash_of("a"), bucket)
        with catalog.exclusive([hash_of("a")]) as writing:
            assert writing.has_image(hash_of("a")) is is_left
    assert catalog.stats() == {"images": 0, "captures": 0, "bytes": 0, "damaged": 0}


def test_a_damaged_image_is_found_nowhere_until_it_is_recorded_again(catalog):
    """A mark of damage hides an image from every query, and a new record removes the mark."""

    def found():
        return [
            catalog.images([hash_of("a")]).get(hash_of("a")),
            catalog.get_meta(hash_of("a"), None),
            catalog.lookup_many([PAGE]).get(PAGE),
            *(lists.search(catalog, "page") or [None]),
            *(lists.similar(catalog, f"{7:016x}", 0) or [None]),
        ]

    record(catalog, "a", perceptual_hash=7)
    assert None not in found()
    with catalog.exclusive([hash_of("a")]) as writing:
        writing.mark_damaged(hash_of("a"))
    assert found() == [None] * 5
    assert catalog.stats()["damaged"] == 1
    record(catalog, "a", url="http://a.test/elsewhere", perceptual_hash=7)
    assert None not in found()
    assert catalog.stats()["damaged"] == 0


def test_a_url_whose_newest_image_is_damaged_gives_the_one_before(catalog):
    """A damaged image hides no sound one; a URL whose images are all damaged is a miss."""
    record(catalog, "old", at=0)
    record(catalog, "new", at=1)
    with catalog.exclusive([hash_of("new")]) as writing:
        writing.mark_damaged(hash_of("new"))
    assert newest(catalog) == hash_of("old")
    assert [entry["content_hash"] for entry in lists.search(catalog, "page")] == [hash_of("old")]
    with catalog.exclusive([hash_of("old")]) as writing:
        writing.mark_damaged(hash_of("old"))
    assert newest(catalog) is None
    assert lists.search(catalog, "page") == []


def test_many_urls_are_looked_up_at_once(catalog):
    """A lookup of thousands of URLs returns only the hits, each under its own URL."""
    known = [f"{PAGE}?{i}" for i in range(0, 3000, 1000)]
    for url in known:
        record(catalog, url, url=url)
    found = catalog.lookup_many(f"{PAGE}?{i}" for i in range(3000))
    assert {url: entry["url"] for url, entry in found.items()} == {url: url for url in known}


def test_long_urls_may_differ_at_the_end(catalog):
    """Every character of a URL of 64 KB counts."""
    long = f"{PAGE}?{'x' * 65_000}"
    record(catalog, "a", url=f"{long}1")
    assert newest(catalog, f"{long}1") == hash_of("a")
    assert newest(catalog, f"{long}2") is None


special_text = st.text(st.sampled_from("aAbB%_\\*?['\"é"), min_size=1, max_size=6)


@given(urls=st.lists(special_text, min_size=1, unique=True), part=special_text)
def test_search_is_literal(urls, part):
    """A search finds exactly the URLs that contain the text: no wildcards, no escapes."""
    with closing(Catalog(IN_MEMORY)) as catalog:
        for url in urls:
            record(catalog, "a", url=url)
        found = {entry["url"] for entry in lists.search(catalog, part)}
    assert found == {url for url in urls if part in url}


def test_search_gives_each_url_once_newest_first(catalog):
    """Search lists the newest capture of each URL, newest first, up to the limit."""
    for url, name, at in [("x1", "a", 5), ("x2", "b", 9), ("x1", "c", 7), ("x3", "d", 1)]:
        record(catalog, name, url=url, at=at)
    found = [(entry["url"], entry["content_hash"]) for entry in lists.search(catalog, "x")]
    assert found == [("x2", hash_of("b")), ("x1", hash_of("c")), ("x3", hash_of("d"))]
    assert [entry["url"] for entry in lists.search(catalog, "x", limit=2)] == ["x2", "x1"]


def test_search_gives_a_url_of_two_buckets_once(catalog):
    """Over all buckets, too, a URL has one entry: the newest."""
    for bucket, name, at in [("one", "a", 1), ("two", "b", 2), ("three", "c", 0)]:
        record(catalog, name, bucket=bucket, at=at)
    assert [entry["bucket"] for entry in lists.search(catalog, "page")] == ["two"]


def near(centre, radius):
    """Generate hashes at different distances from the centre."""
    flips = st.sets(st.integers(0, 63), max_size=radius)
    return flips.map(lambda places: centre ^ sum(1 << place for place in places))


CENTRE = 0x0123456789ABCDEF


@given(
    hashes=st.lists(near(CENTRE, 24), unique=True),
    query_hash=near(CENTRE, 4),
    distance=st.integers(0, 24) | st.just(64),
    limit=st.none() | st.integers(0, 5),
)
def test_similar_agrees_with_brute_force(hashes, query_hash, distance, limit):
    """Similar returns every image within the distance, nearest first, with its distance."""
    with closing(Catalog(IN_MEMORY)) as catalog:
        for value in hashes:
            record(catalog, f"{value}", url=f"{value}", perceptual_hash=value)
        entries = lists.similar(catalog, f"{query_hash:016x}", distance, limit=limit)
    found = {int(entry["perceptual_hash"], 16): entry["distance"] for entry in entries}
    near = sorted((value ^ query_hash).bit_count() for value in hashes)
    assert [entry["distance"] for entry in entries] == [d for d in near if d <= distance][:limit]
    assert found == {value: (value ^ query_hash).bit_count() for value in found}
    assert len(found) == len(entries)
    assert found.keys() <= set(hashes)


def test_similar_may_return_more_images_than_one_query_reads():
    """All similar images are found, also if their entries need several queries."""
    with closing(Catalog(IN_MEMORY)) as catalog:
        for number in range(1100):
            record(catalog, f"{number}", url=f"{number}", perceptual_hash=CENTRE)
        assert len(lists.similar(catalog, f"{CENTRE:016x}", 0)) == 1100


def test_similar_gives_an_image_once_with_its_newest_capture(catalog):
    """An image with several URLs is listed once."""
    for url, at in [("x1", 1), ("x2", 3), ("x3", 2)]:
        record(catalog, "a", url=url, at=at, perceptual_hash=CENTRE)
    assert [entry["url"] for entry in lists.similar(catalog, f"{CENTRE:016x}", 4)] == ["x2"]


def test_an_error_rolls_a_transaction_back(catalog):
    """An error rolls back what was written before it, and other transactions can write."""

    def fail():
        with catalog.exclusive([hash_of("a")]) as writing:
            image = Image(hash_of("a"), "image/png", 10, 4, 3, None)
            writing.record([(image, Capture(PAGE, "", "test", None, NOON))])
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert catalog.stats()["images"] == 0
    record(catalog, "a")
    assert newest(catalog) == hash_of("a")


def test_a_transaction_locks_the_database_when_it_begins(catalog, path):
    """A transaction takes the write lock when it begins, before its first write."""
    with closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as other:
        with (
            catalog.exclusive([hash_of("a")]),
            pytest.raises(sqlite3.OperationalError, match="locked"),
        ):
            other.execute("BEGIN IMMEDIATE")
        other.execute("BEGIN IMMEDIATE")


def test_readers_do_not_wait_for_writers(catalog, path):
    """While another process writes, every query is answered from the committed data."""
    record(catalog, "a", perceptual_hash=CENTRE)
    with closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        other.execute("UPDATE image SET damaged = 1")
        assert newest(catalog) == hash_of("a")
        assert catalog.images([hash_of("a")]).get(hash_of("a")) is not None
        assert (
            len(lists.search(catalog, "page"))
            == len(lists.similar(catalog, f"{CENTRE:016x}", 4))
            == 1
        )
        assert catalog.stats()["damaged"] == 0


def test_connections_sync_and_wait_for_locks(catalog):
    """Each connection has a write-ahead log, a sync at every commit and a lock timeout of 30 s."""
    with catalog._engine.connect() as one, catalog._engine.connect() as two:
        for connection in (one, two):
            settings = {
                name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
                for name in ("journal_mode", "synchronous", "busy_timeout")
            }
            assert settings == {"journal_mode": "wal", "synchronous": 2, "busy_timeout": 30_000}
            connection.rollback()


def test_the_schema_number_is_written_once(catalog, path):
    """Opening a catalog again does not write its schema number again."""
    open_catalog(path).close()
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("SELECT number FROM imgcache_schema").fetchall() == [(SCHEMA,)]


def test_a_newer_catalog_is_refused(catalog, path):
    """A catalog of a later version is not opened, and the error says what to upgrade."""
    catalog.close()
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("UPDATE imgcache_schema SET number = number + 1")
    with pytest.raises(ConfigurationError, match="upgrade"):
        open_catalog(path)


def test_a_file_that_is_not_a_database_is_unchanged(path):
    """A file that is not a database is neither opened nor overwritten."""
    path.write_bytes(b"my thesis " * 1000)
    with pytest.raises(DBAPIError):
        open_catalog(path)
    assert path.read_bytes() == b"my thesis " * 1000
