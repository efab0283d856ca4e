"""The index of URLs: a search through it finds the same URLs as a scan, also for common text."""

from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy.engine import URL

from imgcache_scrapy.core.entry import content_hash_of
from imgcache_scrapy.engine.catalog.catalog import Catalog
from imgcache_scrapy.engine.catalog.rows import Capture, Image
from imgcache_scrapy.engine.catalog.url_index import rarest_trigrams
from tests.support import lists

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)


def record(catalog, urls, *, minutes=0):
    """Record one image for each URL, each one minute newer than the one before."""
    names = [content_hash_of(url.encode()) for url in urls]
    with catalog.exclusive(names) as writing:
        writing.record(
            [
                (
                    Image(name, "image/png", 10, None, None, None),
                    Capture(url, "", "test", None, NOON + timedelta(minutes=minutes + i)),
                )
                for i, (name, url) in enumerate(zip(names, urls, strict=True))
            ]
        )


def url_of(number):
    return f"http://shop{number % 7}.test/Products/{number // 5}/ä-{number}.jpg?size=%20_{number}"


# More URLs than one indexing step takes; enough for a common text to bypass the index.
URLS = [url_of(number) for number in range(4300)]


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def catalog(request, tmp_path_factory):
    """Create a catalog of all URLs in steps; delete the last ones and record them again."""
    if request.param == "sqlite":
        path = tmp_path_factory.mktemp("catalog") / "catalog.sqlite3"
        address = URL.create("sqlite", database=str(path))
    else:
        address = request.getfixturevalue("postgresql").new_database()
    with closing(Catalog(address)) as catalog:
        for start in range(0, 4300, 430):
            record(catalog, URLS[start : start + 430], minutes=start)
        for url in URLS[-500:]:
            name = content_hash_of(url.encode())
            with catalog.exclusive([name]) as writing:
                writing.delete_captures(name, "")
        # In another order: a stale row of the index would point to another URL.
        for start in range(4200, 3700, -100):
            record(catalog, URLS[start : start + 100], minutes=start)
        yield catalog


def scan(text, limit):
    """Return what a scan finds without any index; the URLs were recorded oldest first."""
    return [url for url in reversed(URLS) if text in url][:limit]


@pytest.mark.parametrize("examples", [15, pytest.param(200, marks=pytest.mark.endurance)])
def test_a_search_finds_what_a_scan_finds(catalog, examples):
    """A search finds any part of a URL: rare or common, already indexed or not."""

    @settings(max_examples=examples)
    @given(
        number=st.integers(0, len(URLS) - 1),
        start=st.integers(0, 40),
        length=st.integers(0, 30),
        limit=st.sampled_from([None, 1, 50]),
    )
    def compare(number, start, length, limit):
        text = URLS[number][start : start + length]
        assert [entry["url"] for entry in lists.search(catalog, text, limit=limit)] == scan(
            text, limit
        )

    compare()


@pytest.mark.parametrize(
    "text", ["", "h", "http", "shop3.", "PRODUCTS", '"ä-12"', "%20_77", "ä-4299", "a OR b", "*"]
)
def test_search_text_has_no_special_characters(catalog, text):
    """Quotes, wildcards and operators are plain characters, and the search is case-sensitive."""
    assert [entry["url"] for entry in lists.search(catalog, text)] == scan(text, None)


def test_opening_a_catalog_without_an_index_creates_it(tmp_path):
    """The next opening indexes all URLs of the catalog."""
    address = URL.create("sqlite", database=str(tmp_path / "catalog.sqlite3"))
    with closing(Catalog(address)) as catalog:
        record(catalog, URLS[:2500])
        with catalog.exclusive([]) as writing:
            writing._connection.exec_driver_sql("DROP TABLE capture_url")
    with closing(Catalog(address)) as catalog:
        assert [entry["url"] for entry in lists.search(catalog, "ä-1234.")] == [URLS[1234]]


def test_the_rarest_trigrams_are_chosen():
    """The search uses trigrams that only a few URLs contain."""
    sample = ["http://a.test/1.jpg", "http://a.test/2.jpg", "http://a.test/xyz.jpg"]
    assert rarest_trigrams("test/xyz9.jpg", sample)[0] in {"yz9", "z9.", "9.j"}
    assert len(rarest_trigrams("test/xyz9.jpg", sample)) == 3
    assert rarest_trigrams("abc", []) == ["abc"]
