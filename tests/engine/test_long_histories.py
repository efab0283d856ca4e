"""Keys with very many captures: queries read only the newest ones, on both databases."""

from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from imgcache_scrapy.core.entry import content_hash_of
from imgcache_scrapy.core.failures import SeenFailure
from imgcache_scrapy.core.image_url import ImageUrl
from imgcache_scrapy.core.response_info import ResponseInfo
from imgcache_scrapy.core.times import microseconds
from imgcache_scrapy.engine.cache import ImageCache
from imgcache_scrapy.engine.catalog.rows import Capture
from imgcache_scrapy.engine.catalog.tables import capture
from imgcache_scrapy.engine.store_request import ClaimRequest
from tests.support import lists, schema_1, schema_3
from tests.support.schema_3 import OldCapture

LONG, SHORT = "http://a.test/long", "http://a.test/short"
A, B = b"image a", b"image b"
COUNT = 2_000


@pytest.fixture
def cache(database_url, blobs_url):
    """Open a cache with one long history, of two images in turns, and a short one."""
    with closing(ImageCache(database_url, blobs_url)) as cache:
        for data in (A, B):
            cache.store(SHORT, data, "test", lookup_time=at(0), bucket=data.decode())
        add_others(cache)
        add_captures(cache, COUNT)
        yield cache


def at(seconds):
    """Return a time that all captures of the tests are near."""
    return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)


def add_others(cache):
    """Add captures of other URLs, newer than those of the long history."""
    rows = [
        Capture(f"http://b.test/{number}", "", "test", None, at(2 * COUNT)).row()
        | {"content_hash": content_hash_of(A), "created_at": 0}
        for number in range(COUNT)
    ]
    with cache.catalog._engine.begin() as connection:
        connection.execute(capture.insert(), rows)


def add_captures(cache, count, **values):
    """Add captures of the long history, a second apart."""
    rows = [
        Capture(LONG, "", "test", None, at(number)).row()
        | {"content_hash": content_hash_of((A, B)[number % 2]), "created_at": number}
        | values
        for number in range(count)
    ]
    with cache.catalog._engine.begin() as connection:
        connection.execute(capture.insert(), rows)
        if connection.dialect.name == "postgresql":
            connection.exec_driver_sql("ANALYZE capture")


@contextmanager
def counted_steps(cache):
    """Count the steps of SQLite in one call, in units of a hundred."""
    engine, steps = cache.catalog._engine, []

    def watch(connection, _record):
        connection.set_progress_handler(lambda: steps.append(1), 100)

    engine.dispose()
    sa.event.listen(engine, "connect", watch)
    yield steps
    sa.event.remove(engine, "connect", watch)
    engine.dispose()


def plans_of(engine, call):
    """Return the plan of each query for digests that a call sends to PostgreSQL."""
    sent = []

    def note(_connection, _cursor, statement, values, *_):
        if "url_digest = " in statement or "url_digest IN " in statement:
            sent.append((statement, values))

    sa.event.listen(engine, "before_cursor_execute", note)
    call()
    sa.event.remove(engine, "before_cursor_execute", note)
    with engine.connect() as connection:
        return [
            "\n".join(connection.exec_driver_sql(f"EXPLAIN {statement}", values).scalars())
            for statement, values in sent
            if not isinstance(values, list)
        ]


CALLS = {
    "lookup": lambda cache: cache.catalog.lookup_many([LONG]),
    "lookups": lambda cache: cache.catalog.lookup_many([SHORT, LONG], "", accept="image/png"),
    "store": lambda cache: cache.store(LONG, A, "test"),
    "claim": lambda cache: cache.store_many([ClaimRequest.of(LONG, content_hash_of(A), "test")]),
    "history": lambda cache: cache.catalog.history_page([LONG], limit=2),
    "further history": lambda cache: cache.catalog.history_page(
        [LONG, SHORT], limit=2, after=cache.catalog.history_page([LONG, SHORT], limit=3).after
    ),
    "failures": lambda cache: cache.catalog.remember_failures(
        [SeenFailure(ImageUrl.of(LONG), "http_404", 404, 60)], ""
    ),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_long_history_is_not_read(cache, call):
    """The index gives the newest captures: SQLite takes few steps, PostgreSQL plans to use it."""
    call(cache)
    engine = cache.catalog._engine
    if engine.dialect.name == "sqlite":
        with counted_steps(cache) as steps:
            call(cache)
        assert len(steps) < 30
    else:
        plans = plans_of(engine, lambda: call(cache))
        assert plans
        # There are no times in the future, and another index says so.
        assert all("ix_capture_history" in plan or "(lookup_time > " in plan for plan in plans)


def newest_of(cache, **options):
    """Return the time of the newest capture of the long history, in seconds; None for a miss."""
    entry = cache.catalog.lookup_many([LONG], **options).get(LONG)
    if entry is None:
        return None
    return (datetime.fromisoformat(entry["lookup_time"]) - at(0)).total_seconds()


def test_older_captures_are_found_behind_many_others(cache):
    """Damaged images, other buckets and other values of `Accept` hide no capture behind them."""
    add_captures(cache, 1, bucket="old")
    add_captures(cache, 1, accept="image/old")
    set_newest(cache, LONG, accept="image/new")
    assert newest_of(cache) == COUNT - 1
    assert newest_of(cache, bucket="old") == 0
    assert newest_of(cache, bucket="none") is None
    assert newest_of(cache, accept="image/new") == COUNT - 1
    assert newest_of(cache, accept="image/old") == COUNT - 2
    b = content_hash_of(B)
    assert newest_of(cache, without=[b]) == COUNT - 2
    with cache.catalog.exclusive([b]) as transaction:
        transaction.mark_damaged(b)
    assert newest_of(cache) == COUNT - 2
    assert newest_of(cache, without=[content_hash_of(A)]) is None


def set_newest(cache, url, **values):
    """Change the newest capture of a URL in the default bucket."""
    newest = sa.select(sa.func.max(capture.c.lookup_time)).where(capture.c.url == url)
    with cache.catalog._engine.begin() as connection:
        time = connection.scalar(newest)
        found = capture.c.url == url, capture.c.lookup_time == time
        assert connection.execute(capture.update().where(*found).values(values)).rowcount == 1


def test_times_in_the_future_have_their_place_in_a_long_history(cache):
    """They are ordered by the creation, in lookups and on all pages of the history."""
    far = microseconds(datetime(9999, 12, 31, tzinfo=UTC))
    for seconds in (5.5, COUNT + 1):
        created_at = microseconds(at(seconds))
        add_captures(cache, 1, lookup_time=far, created_at=created_at)
        assert newest_of(cache) == max(seconds, COUNT - 1)
        assert newest_of(cache, bucket="") == max(seconds, COUNT - 1)
    times = [each["lookup_time"] for each in lists.history(cache.catalog, [LONG, SHORT])]
    assert len(times) == COUNT + 4
    assert times == sorted(times, reverse=True)
    assert times.index(at(5.5).isoformat()) == COUNT - 5
    cache.store(LONG, A, "test")
    assert cache.catalog.lookup_many([LONG])[LONG]["client_name"] == "test"
    assert len(lists.history(cache.catalog, [LONG])) == COUNT + 2


def test_stores_renew_the_newest_capture_of_their_history(cache):
    """Each bucket and each `Accept` has a newest capture of its own."""
    before = cache.catalog.stats()["captures"]
    for _ in range(2):
        for bucket, accept in (("", None), ("", "image/x"), ("other", None)):
            cache.store(LONG, B, "me", bucket=bucket, response=ResponseInfo(accept=accept))
    assert cache.catalog.stats()["captures"] == before + 2


def test_a_large_old_catalog_gets_the_index_later(database_url, blobs_url, tmp_path):
    """Opening leaves its index, and gives the same answers; `index_histories` replaces it."""
    old = [OldCapture(LONG, (A, B)[number % 2]) for number in range(20)]
    schema_3.make(database_url, old, tmp_path / "blobs")
    with schema_1.connected(database_url) as connection:
        connection.execute("UPDATE capture SET id = id + 100000")
    answers = []
    with closing(ImageCache(database_url, blobs_url)) as cache:
        for names in ({"ix_capture_url_digest"}, {"ix_capture_history"}, {"ix_capture_history"}):
            with cache.catalog._engine.connect() as connection:
                found = {each["name"] for each in sa.inspect(connection).get_indexes("capture")}
            assert {name for name in found if name.endswith(("digest", "history"))} == names
            answers.append(
                (cache.catalog.lookup_many([LONG]), lists.history(cache.catalog, [LONG]))
            )
            cache.catalog.index_histories()
    assert answers[0] == answers[1] == answers[2]
    assert len(answers[0][1]) == 20
    assert answers[0][0][LONG] == answers[0][1][0]
