"""The catalog: histories of captures, newest first, and transactions that exclude each other."""

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

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
IN_MEMORY = "sqlite://"
PAGE = "http://a.test/page.jpg"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "catalog.sqlite3"


@pytest.fixture
def catalog(path):
    with closing(opened(path)) as catalog:
        yield catalog


def opened(path):
    return Catalog(URL.create("sqlite", database=str(path)))


def named(name):
    """The content hash of an image that has a name and no bytes."""
    return content_hash_of(name.encode())


def record(catalog, name, *, url=PAGE, bucket="", at=NOON, perceptual_hash=None):
    """Record an image and a capture of it; hours after noon do for a time."""
    time = at if isinstance(at, datetime) else NOON + timedelta(hours=at)
    text = None if perceptual_hash is None else f"{perceptual_hash:016x}"
    image = Image(named(name), "image/png", 10, 4, 3, text)
    with catalog.exclusive([named(name)]) as writing:
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
def test_the_newest_capture_is_by_time_then_by_insertion(catalog, history, expected):
    """A capture that is filled in later does not win by that; of equal times the last one does."""
    for name, at in history:
        record(catalog, name, at=at)
    assert newest(catalog) == named(expected)


@pytest.mark.parametrize(
    ("history", "captures"), [("aaa", 1), ("ab", 2), ("aba", 3), ("aabbaa", 3)]
)
def test_only_a_change_makes_a_capture(catalog, history, captures):
    """The same image under the same URL renews the newest capture, another one is a new one."""
    for at, name in enumerate(history):
        record(catalog, name, at=at)
    assert catalog.stats()["captures"] == captures


def test_a_renewed_capture_takes_the_later_time_and_keeps_when_it_was_made(catalog):
    """Seeing the image again moves the capture's time on, never back."""
    first = record(catalog, "a", at=1)
    later = record(catalog, "a", at=5)
    earlier = record(catalog, "a", at=3)
    assert first["created_at"] == later["created_at"] == earlier["created_at"]
    assert later["lookup_time"] == earlier["lookup_time"] == "2026-06-01T17:00:00+00:00"


@given(
    time=st.datetimes(
        timezones=st.integers(-23, 23).map(lambda h: timezone(timedelta(hours=h))),
        min_value=datetime(1, 1, 2),  # noqa: DTZ001
        max_value=datetime(9999, 12, 30, 23, 59, 59, 999999),  # noqa: DTZ001
    )
)
def test_times_are_kept_to_the_microsecond(time):
    """Whatever the century and the zone, the time comes back exactly, in UTC."""
    with closing(Catalog(IN_MEMORY)) as catalog:
        entry = record(catalog, "a", at=time)
    assert entry["lookup_time"] == time.astimezone(UTC).isoformat()


@given(
    observed=st.lists(
        st.tuples(st.sampled_from("ab"), st.sampled_from("xyz"), st.integers(0, 3)), max_size=8
    ),
    size=st.integers(1, 8),
)
def test_many_records_in_one_transaction_are_as_one_after_the_other(observed, size):
    """Same entries, same captures: an image or a URL that comes twice in a batch included."""

    def recorded(at_once):
        entries = []
        with closing(Catalog(IN_MEMORY)) as catalog:
            for start in range(0, len(observed), at_once):
                pairs = [
                    (
                        Image(named(name), "image/png", 10, 4, 3, None),
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


def test_an_image_is_new_once(catalog):
    """Only the first row of an image is said to be created, until the image is gone."""
    assert [record(catalog, "a", url=f"{PAGE}?{i}")["created"] for i in range(3)] == [True] + [
        False
    ] * 2
    with catalog.exclusive([named("a")]) as writing:
        assert writing.delete_captures(named("a"), "") == 3
    assert record(catalog, "a")["created"]


def test_an_image_goes_with_its_last_capture(catalog):
    """As long as some bucket has a capture of the image, it has its row."""
    for bucket in ("one", "two"):
        record(catalog, "a", bucket=bucket)
    for bucket, is_left in [("three", True), ("one", True), ("two", False)]:
        with catalog.exclusive([named("a")]) as writing:
            writing.delete_captures(named("a"), bucket)
        with catalog.exclusive([named("a")]) as writing:
            assert writing.has_image(named("a")) is is_left
    assert catalog.stats() == {"images": 0, "captures": 0, "bytes": 0, "damaged": 0}


def test_a_damaged_image_is_found_nowhere_until_it_is_recorded_again(catalog):
    """Marking it damaged hides it from every question; recording it heals it."""

    def found():
        return [
            catalog.images([named("a")]).get(named("a")),
            catalog.get_meta(named("a"), None),
            catalog.lookup_many([PAGE]).get(PAGE),
            *(catalog.search("page") or [None]),
            *(catalog.similar(f"{7:016x}", 0) or [None]),
        ]

    record(catalog, "a", perceptual_hash=7)
    assert None not in found()
    with catalog.exclusive([named("a")]) as writing:
        writing.mark_damaged(named("a"))
    assert found() == [None] * 5
    assert catalog.stats()["damaged"] == 1
    record(catalog, "a", url="http://a.test/elsewhere", perceptual_hash=7)
    assert None not in found()
    assert catalog.stats()["damaged"] == 0


def test_a_url_whose_newest_image_is_damaged_is_a_miss(catalog):
    """An older image of the URL is no answer: it would be a picture that the page had once."""
    record(catalog, "old", at=0)
    record(catalog, "new", at=1)
    with catalog.exclusive([named("new")]) as writing:
        writing.mark_damaged(named("new"))
    assert newest(catalog) is None
    assert catalog.search("page") == []


def test_many_urls_are_looked_up_at_once(catalog):
    """A lookup of thousands answers with the hits alone, each under its own URL."""
    known = [f"{PAGE}?{i}" for i in range(0, 3000, 1000)]
    for url in known:
        record(catalog, url, url=url)
    found = catalog.lookup_many(f"{PAGE}?{i}" for i in range(3000))
    assert {url: entry["url"] for url, entry in found.items()} == {url: url for url in known}


def test_urls_may_be_long_and_differ_at_the_end(catalog):
    """Of a URL of 64 KB every character counts."""
    long = f"{PAGE}?{'x' * 65_000}"
    record(catalog, "a", url=f"{long}1")
    assert newest(catalog, f"{long}1") == named("a")
    assert newest(catalog, f"{long}2") is None


TRICKY = st.text(st.sampled_from("aAbB%_\\*?['\"é"), min_size=1, max_size=6)


@given(urls=st.lists(TRICKY, min_size=1, unique=True), part=TRICKY)
def test_search_is_literal(urls, part):
    """A URL is found by exactly the parts it has: no wildcards, no escapes, no other case."""
    with closing(Catalog(IN_MEMORY)) as catalog:
        for url in urls:
            record(catalog, "a", url=url)
        found = {entry["url"] for entry in catalog.search(part)}
    assert found == {url for url in urls if part in url}


def test_search_gives_each_url_once_newest_first(catalog):
    """Only the newest capture of a URL is listed, sorted by its time, and at most so many."""
    for url, name, at in [("x1", "a", 5), ("x2", "b", 9), ("x1", "c", 7), ("x3", "d", 1)]:
        record(catalog, name, url=url, at=at)
    found = [(entry["url"], entry["content_hash"]) for entry in catalog.search("x")]
    assert found == [("x2", named("b")), ("x1", named("c")), ("x3", named("d"))]
    assert [entry["url"] for entry in catalog.search("x", limit=2)] == ["x2", "x1"]


def test_search_gives_a_url_of_two_buckets_once(catalog):
    """Over all buckets, too, a URL has one entry: the newest."""
    for bucket, name, at in [("one", "a", 1), ("two", "b", 2), ("three", "c", 0)]:
        record(catalog, name, bucket=bucket, at=at)
    assert [entry["bucket"] for entry in catalog.search("page")] == ["two"]


def near(centre, radius):
    """Hashes around the centre, so that some are within any distance."""
    flips = st.sets(st.integers(0, 63), max_size=radius)
    return flips.map(lambda places: centre ^ sum(1 << place for place in places))


CENTRE = 0x0123456789ABCDEF


@given(
    hashes=st.lists(near(CENTRE, 24), unique=True),
    question=near(CENTRE, 4),
    distance=st.integers(0, 24) | st.just(64),
    limit=st.none() | st.integers(0, 5),
)
def test_similar_finds_what_brute_force_finds(hashes, question, distance, limit):
    """Every image within the distance, none beyond it, nearest first, with its distance."""
    with closing(Catalog(IN_MEMORY)) as catalog:
        for value in hashes:
            record(catalog, f"{value}", url=f"{value}", perceptual_hash=value)
        entries = catalog.similar(f"{question:016x}", distance, limit=limit)
    found = {int(entry["perceptual_hash"], 16): entry["distance"] for entry in entries}
    near = sorted((value ^ question).bit_count() for value in hashes)
    assert [entry["distance"] for entry in entries] == [d for d in near if d <= distance][:limit]
    assert found == {value: (value ^ question).bit_count() for value in found}
    assert len(found) == len(entries)
    assert found.keys() <= set(hashes)


def test_similar_finds_more_than_fit_into_one_query():
    """More look-alikes than their entries are fetched of at a time are all found."""
    with closing(Catalog(IN_MEMORY)) as catalog:
        for number in range(1100):
            record(catalog, f"{number}", url=f"{number}", perceptual_hash=CENTRE)
        assert len(catalog.similar(f"{CENTRE:016x}", 0)) == 1100


def test_similar_gives_an_image_once_by_its_newest_capture(catalog):
    """However many URLs led to it, an image is one look-alike."""
    for url, at in [("x1", 1), ("x2", 3), ("x3", 2)]:
        record(catalog, "a", url=url, at=at, perceptual_hash=CENTRE)
    assert [entry["url"] for entry in catalog.similar(f"{CENTRE:016x}", 4)] == ["x2"]


def test_an_error_in_a_transaction_undoes_it(catalog):
    """What was written before the error is not there afterwards, and others can write."""

    def fail():
        with catalog.exclusive([named("a")]) as writing:
            image = Image(named("a"), "image/png", 10, 4, 3, None)
            writing.record([(image, Capture(PAGE, "", "test", None, NOON))])
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert catalog.stats()["images"] == 0
    record(catalog, "a")
    assert newest(catalog) == named("a")


def test_nobody_else_writes_in_an_open_transaction(catalog, path):
    """The right to write is taken when the transaction begins, before it has written anything."""
    with closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as other:
        with (
            catalog.exclusive([named("a")]),
            pytest.raises(sqlite3.OperationalError, match="locked"),
        ):
            other.execute("BEGIN IMMEDIATE")
        other.execute("BEGIN IMMEDIATE")


def test_reading_waits_for_no_writer(catalog, path):
    """While another process writes, every question is answered from what was committed."""
    record(catalog, "a", perceptual_hash=CENTRE)
    with closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        other.execute("UPDATE image SET damaged = 1")
        assert newest(catalog) == named("a")
        assert catalog.images([named("a")]).get(named("a")) is not None
        assert len(catalog.search("page")) == len(catalog.similar(f"{CENTRE:016x}", 4)) == 1
        assert catalog.stats()["damaged"] == 0


def test_connections_are_durable_and_patient(catalog):
    """Each connection has a write-ahead log, a sync at every commit and patience with locks."""
    with catalog._engine.connect() as one, catalog._engine.connect() as two:
        for connection in (one, two):
            settings = {
                name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
                for name in ("journal_mode", "synchronous", "busy_timeout")
            }
            assert settings == {"journal_mode": "wal", "synchronous": 2, "busy_timeout": 30_000}
            connection.rollback()


def test_a_catalog_says_its_schema(catalog, path):
    """The schema number is written once, however often the catalog is opened."""
    opened(path).close()
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("SELECT number FROM imgcache_schema").fetchall() == [(SCHEMA,)]


def test_a_newer_catalog_is_refused(catalog, path):
    """A catalog of a later version is not touched, and the message says what to upgrade."""
    catalog.close()
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("UPDATE imgcache_schema SET number = number + 1")
    with pytest.raises(ConfigurationError, match="upgrade"):
        opened(path)


def test_what_is_no_database_is_left_alone(path):
    """A file that is something else is neither opened nor overwritten."""
    path.write_bytes(b"my thesis " * 1000)
    with pytest.raises(DBAPIError):
        opened(path)
    assert path.read_bytes() == b"my thesis " * 1000
