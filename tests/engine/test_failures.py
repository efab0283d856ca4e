"""Remembered failures in the engine, on SQLite and PostgreSQL: bounds, times and concurrency."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
import sqlalchemy as sa

from imgcache_scrapy.core.failures import SeenFailure
from imgcache_scrapy.core.image_url import ImageUrl
from imgcache_scrapy.engine.cache import ImageCache
from imgcache_scrapy.engine.catalog import rare_rows
from tests.support import lists
from tests.support.pictures import jpeg

URL = "http://h.example/{}.jpg"


@pytest.fixture
def any_cache(database_url, blobs_url):
    """Open an empty cache; once on SQLite, once on PostgreSQL."""
    with closing(ImageCache(database_url, blobs_url)) as cache:
        yield cache


@pytest.fixture
def catalog(any_cache):
    return any_cache.catalog


def seen(*numbers, seconds=60.0):
    return [SeenFailure(ImageUrl.of(URL.format(n)), "http_404", 404, seconds) for n in numbers]


def count_rows(catalog):
    with catalog._engine.connect() as connection:
        return connection.scalar(sa.text("SELECT count(*) FROM failure"))


def test_the_oldest_failures_go_when_there_are_too_many(catalog):
    """The newest ones stay, up to the maximum."""
    catalog.max_failures = 5
    for n in range(20):
        catalog.remember_failures(seen(n), "")
    assert count_rows(catalog) == 5
    urls = [each["url"] for each in catalog.failures_page().entries]
    assert urls == [URL.format(n) for n in range(19, 14, -1)]


def test_expired_failures_are_removed_by_later_writes(catalog):
    """Each write removes some of them, so that none stays for ever."""
    catalog.remember_failures(seen(*range(50), seconds=0.000001), "")
    catalog.remember_failures(seen(50), "")
    assert count_rows(catalog) == 1


def test_no_query_is_made_while_there_are_no_failures(catalog, monkeypatch):
    """The table is looked at once in a second; a failure of this process is seen at once."""
    monkeypatch.setattr(rare_rows, "_SECONDS_BETWEEN_CHECKS", 1000)
    urls, queries = [URL.format(n) for n in range(3)], []
    sa.event.listen(catalog._engine, "before_cursor_execute", lambda *args: queries.append(args[2]))
    for _ in range(5):
        assert catalog.failures_of(urls, "") == {}
    assert len([query for query in queries if "failure" in query]) == 1
    catalog.remember_failures(seen(1), "")
    assert catalog.failures_of(urls, "").keys() == {urls[1]}


def test_a_failure_of_a_wrong_clock_is_not_believed(catalog):
    """One that was seen in the future does not keep its URL from being asked."""
    catalog.remember_failures(seen(1), "")
    with catalog._engine.begin() as connection:
        connection.execute(
            sa.text("UPDATE failure SET failed_at = failed_at + :d, expires_at = expires_at + :d"),
            {"d": 10**12},
        )
    assert catalog.failures_of([URL.format(1)], "") == {}


def test_a_failure_of_another_bucket_is_not_told(catalog):
    """Each bucket has its own failures."""
    catalog.remember_failures(seen(1), "a")
    assert catalog.failures_of([URL.format(1)], "b") == {}
    assert catalog.failures_page(bucket="b").entries == []


def test_the_list_of_failures_comes_in_pages(catalog):
    """The pages together are the whole list, in the order of times and digests."""
    catalog.remember_failures(seen(*range(7)), "")
    whole = catalog.failures_page().entries
    pages = lists.all_pages(lambda _, after: catalog.failures_page(limit=2, after=after), None)
    assert pages == whole
    assert len(whole) == 7


@pytest.mark.parametrize("rounds", [10, pytest.param(500, marks=pytest.mark.endurance)])
def test_stores_and_failures_of_the_same_urls_do_not_block_each_other(any_cache, rounds):
    """Many threads remember and store the same URLs in any order, and none of them fails."""

    def remember(n):
        any_cache.catalog.remember_failures(seen(*range(n % 7, n % 7 + 9)), "")

    def store(n):
        return any_cache.store(URL.format(n % 16), jpeg(n % 16), "me")

    with ThreadPoolExecutor(8) as threads:
        calls = [threads.submit(each, n) for n in range(rounds) for each in (remember, store)]
        assert all(call.exception() is None for call in calls)
    for n in range(min(rounds, 16)):
        any_cache.store(URL.format(n), jpeg(n), "me")
        assert any_cache.catalog.failures_of([URL.format(n)], "") == {}
