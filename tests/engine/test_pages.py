"""Pages of long lists: together they are the whole list, and costly reads delay no lookup."""

import asyncio
import threading
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgcache_scrapy.core.entry import content_hash_of
from imgcache_scrapy.core.limits import MAX_PAGE_CHARACTERS, MAX_PAGE_ENTRIES, MAX_TEXT
from imgcache_scrapy.engine.async_cache import AsyncImageCache
from imgcache_scrapy.engine.cache import ImageCache
from imgcache_scrapy.engine.catalog.catalog import Catalog
from imgcache_scrapy.engine.catalog.rows import Capture, Image
from tests.support import lists
from tests.support.waiting import PATIENCE

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
IN_MEMORY = "sqlite://"
ZERO = "0" * 16


def record(catalog, captures):
    """Record captures, given as URL, number of the image, bucket and hours after noon."""
    observed = [
        (
            Image(content_hash_of(b"%d" % image), "image/png", 10, 4, 3, f"{2**image - 1:016x}"),
            Capture(url, bucket, "me", None, NOON + timedelta(hours=hours)),
        )
        for url, image, bucket, hours in captures
    ]
    hashes = {image.content_hash for image, _ in observed}
    with catalog.exclusive(hashes) as writing:
        writing.record(observed)


def pages(read, limit):
    """Return the entries of all pages of at most `limit` entries; all but the first follow."""
    entries, after = [], None
    while True:
        page = read(limit, after)
        assert len(page.entries) <= limit
        entries += page.entries
        if page.after is None:
            return entries
        assert page.entries
        after = page.after


captures = st.lists(
    st.tuples(
        st.sampled_from([f"http://a.test/{n}" for n in range(5)]),
        st.integers(0, 5),
        st.sampled_from(["", "one"]),
        st.integers(0, 3),
    ),
    max_size=20,
)


@given(
    captures=captures,
    damaged=st.sets(st.integers(0, 5), max_size=2),
    limit=st.integers(1, 4),
    bucket=st.sampled_from([None, "", "one"]),
    text=st.sampled_from(["", "test/", "a", "/1"]),
)
def test_all_pages_together_are_the_whole_list(captures, damaged, limit, bucket, text):
    """Small pages have the same entries in the same order as one large page."""
    with closing(Catalog(IN_MEMORY)) as catalog:
        record(catalog, captures)
        with catalog.exclusive([]) as writing:
            for image in damaged:
                writing.mark_damaged(content_hash_of(b"%d" % image))

        def search(limit, after):
            return catalog.search_page(text, bucket, limit, after)

        def similar(limit, after):
            return catalog.similar_page(ZERO, 4, bucket, limit, after)

        def history(limit, after):
            return catalog.history_page(
                ["http://a.test/0", "http://a.test/1"], bucket, limit, after
            )

        def of_image(limit, after):
            return catalog.captures_page(content_hash_of(b"1"), bucket, limit, after)

        for read in (history, of_image):
            whole = read(None, None).entries
            assert pages(read, limit) == whole
            times = [entry["lookup_time"] for entry in whole]
            assert times == sorted(times, reverse=True)
            assert {entry["bucket"] for entry in whole} <= {bucket or "", bucket or "one"}
        assert pages(search, limit) == search(None, None).entries
        assert pages(similar, limit) == similar(None, None).entries
        assert lists.search(catalog, text, bucket) == search(None, None).entries
        assert lists.similar(catalog, ZERO, 4, bucket, 2) == similar(None, None).entries[:2]


def test_a_page_has_at_most_a_thousand_entries():
    """Also if more are asked for; the list without a limit still has all of them."""
    count = 2 * MAX_PAGE_ENTRIES + 1
    with closing(Catalog(IN_MEMORY)) as catalog:
        record(catalog, [(f"http://a.test/{n}", n % 60, f"{n // 60}", 0) for n in range(count)])
        for limit in (None, MAX_PAGE_ENTRIES, 10**9):
            page = catalog.search_page("a.test", None, limit)
            assert len(page.entries) == MAX_PAGE_ENTRIES
            assert page.after
        found = [entry["url"] for entry in lists.search(catalog, "a.test")]
        assert found == [f"http://a.test/{n}" for n in reversed(range(count))]
        assert len(lists.search(catalog, "a.test", limit=1500)) == 1500
        assert catalog.search_page("a.test", "3", MAX_PAGE_ENTRIES).after is None


def test_a_url_with_many_captures_is_listed_once():
    """Ten thousand captures of one URL do not hide those that follow, on whatever page."""
    history = [("http://a.test/often", n % 2, "", n) for n in range(10_000)]
    with closing(Catalog(IN_MEMORY)) as catalog:
        record(catalog, [("http://a.test/old", 2, "", -1), *history])
        record(catalog, [("http://a.test/new", 3, "", 10_001)])
        whole = catalog.search_page("a.test").entries
        assert [entry["url"][-3:] for entry in whole] == ["new", "ten", "old"]
        assert pages(lambda *at: catalog.search_page("a.test", None, *at), 1) == whole
        assert catalog.get_meta(whole[1]["content_hash"])["lookup_time"] == whole[1]["lookup_time"]


def test_a_page_of_a_history_has_at_most_a_thousand_entries():
    """The whole history has all of them, and a limit may be in any page."""
    history = [("http://a.test/often", n % 2, "", n) for n in range(2 * MAX_PAGE_ENTRIES + 1)]
    with closing(Catalog(IN_MEMORY)) as catalog:
        record(catalog, history)
        found = lists.history(catalog, ["http://a.test/often"])
        assert len(found) == len(history)
        assert lists.history(catalog, ["http://a.test/often"], limit=1500) == found[:1500]
        for read in (
            lambda *at: catalog.history_page(["http://a.test/often"], None, *at),
            lambda *at: catalog.captures_page(content_hash_of(b"1"), None, *at),
        ):
            assert len(read(None, None).entries) == MAX_PAGE_ENTRIES
        assert lists.captures(catalog, content_hash_of(b"0")) == found[::2]


def test_a_page_of_long_urls_has_fewer_entries():
    """The size of a page is bounded, too: 64 KB for each URL would be 64 MB in an answer."""
    urls = [f"http://a.test/{n}/{'a' * 60_000}" for n in range(60)]
    with closing(Catalog(IN_MEMORY)) as catalog:
        record(catalog, [(url, n % 60, "b" * MAX_TEXT, 0) for n, url in enumerate(urls)])
        record(catalog, [(url, 60, "b" * MAX_TEXT, 0) for url in urls])
        for read in (
            lambda *at: catalog.captures_page(content_hash_of(b"60"), None, *at),
            lambda *at: catalog.search_page("a.test", None, *at),
            lambda *at: catalog.similar_page(ZERO, 64, None, *at),
        ):
            first = read(None, None)
            size = sum(len(entry["url"]) + len(entry["bucket"]) for entry in first.entries)
            assert MAX_PAGE_CHARACTERS / 2 < size < MAX_PAGE_CHARACTERS
            assert {entry["url"] for entry in pages(read, 1000)} == set(urls)


# Lanes


@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        ("search", ["a"]),
        ("similar", [ZERO, 64]),
        ("get_meta", ["0" * 64]),
        ("history", [["http://a.test/"]]),
        ("captures", ["0" * 64]),
        ("stats", []),
        ("buckets", []),
    ],
)
async def test_lookups_do_not_wait_for_costly_reads(tmp_path, method, arguments):
    """While eight costly reads run, lookups of each kind are answered, and images are stored."""
    cache = ImageCache.in_folder(tmp_path)
    images = AsyncImageCache(lambda: cache, ImageCache.close)
    await images.store("http://a.test/", b"GIF89a", "me")
    go_on = threading.Event()
    # The first costly read lasts until the test ends it.
    images._scanners.submit(go_on.wait, PATIENCE)
    reads = [asyncio.create_task(getattr(images, method)(*arguments)) for _ in range(8)]
    for _ in range(20):
        entry = await images.lookup("http://a.test/")
        assert (await images.lookup_many(["http://a.test/"])).entries == {"http://a.test/": entry}
        assert await images.type_and_size(entry["content_hash"], None) == ("image/gif", 6)
        assert await images.get_bytes(entry["content_hash"]) == b"GIF89a"
        await images.store("http://a.test/", b"GIF89a", "me")
    assert not any(read.done() for read in reads)
    go_on.set()
    await asyncio.gather(*reads)
    await images.aclose()
