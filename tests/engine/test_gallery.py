"""What the page shows of a catalog: each image once, its facts, and the sums over all rows."""

from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgcache_scrapy.core.entry import content_hash_of
from imgcache_scrapy.core.failures import SeenFailure
from imgcache_scrapy.core.filters import checked_filters
from imgcache_scrapy.core.image_url import ImageUrl
from imgcache_scrapy.engine.catalog import gallery
from imgcache_scrapy.engine.catalog.catalog import Catalog
from imgcache_scrapy.engine.catalog.rows import Capture, Image, today

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
IN_MEMORY = "sqlite://"


def name_of(number):
    """Return the hash of an image; those from 100 on cannot be decoded."""
    return content_hash_of(b"%d" % number)


def record(catalog, captures):
    """Record captures, given as URL, number of the image, bucket and hours after noon."""
    observed = []
    for url, number, bucket, hours in captures:
        facts = (4, 3, f"{number:016x}", None) if number < 100 else (None, None, None, "broken")
        image = Image(name_of(number), "image/png", 10 * (number + 1), *facts)
        capture = Capture(url, bucket, "me", None, NOON + timedelta(hours=hours))
        observed.append((image, capture))
    with catalog.exclusive({image.content_hash for image, _ in observed}) as writing:
        writing.record(observed)


def all_images(read):
    """Return the entries of all pages, of which some may be short."""
    entries, after = [], None
    while True:
        page = read(after)
        entries += page.entries
        after = page.after
        if after is None:
            return entries


def first_of_each_image(entries):
    """Return the first entry of each image."""
    first = {}
    for entry in entries:
        first.setdefault(entry["content_hash"], entry)
    return list(first.values())


FILTERS = (
    *({}, {"host": "a.test"}, {"bucket": "one"}, {"url_contains": "b.test"}, {"damaged": True}),
    *({"url_contains": "1"}, {"since": NOON + timedelta(hours=2)}, {"min_bytes": 25}),
)
captures = st.lists(
    st.tuples(
        st.sampled_from([f"http://{host}.test/{n}" for host in "ab" for n in range(4)]),
        st.sampled_from([0, 1, 2, 3, 100, 101]),
        st.sampled_from(["", "one"]),
        st.integers(0, 5),
    ),
    max_size=20,
)


@given(
    captures=captures,
    damaged=st.sets(st.integers(0, 3), max_size=2),
    limit=st.integers(1, 4),
    max_rows=st.integers(1, 30),
    wanted=st.sampled_from(FILTERS),
    not_decoded=st.booleans(),
)
def test_the_gallery_has_each_image_once(
    *, captures, damaged, limit, max_rows, wanted, not_decoded
):
    """Its pages have the newest capture of each image that meets the filters, newest first."""
    with closing(Catalog(IN_MEMORY)) as catalog, pytest.MonkeyPatch.context() as patch:
        patch.setattr(gallery, "_MAX_ROWS", max_rows)
        record(catalog, captures)
        with catalog.exclusive([]) as writing:
            for number in damaged:
                writing.mark_damaged(name_of(number))
        filters = checked_filters(wanted)
        found = all_images(
            lambda after: catalog.gallery_page(filters, limit, after, not_decoded=not_decoded)
        )
        listed = catalog.list_page(filters).entries
        if not_decoded:
            listed = [entry for entry in listed if entry["width"] is None]
        assert found == first_of_each_image(listed)


def test_both_databases_have_the_same_gallery(database_url):
    """Pages, facts and sums are right in SQLite and in PostgreSQL."""
    with closing(Catalog(database_url)) as catalog:
        record(catalog, [(f"http://a.test/{n}", n % 7, "", n) for n in range(30)])
        record(catalog, [("http://b.test/x", 100, "one", 50), ("http://b.test/y", 0, "one", 60)])
        found = all_images(lambda after: catalog.gallery_page({}, 2, after))
        assert [entry["content_hash"] for entry in found] == [
            name_of(n) for n in (0, 100, 1, 6, 5, 4, 3, 2)
        ]
        assert catalog.gallery_page({}, not_decoded=True).entries == found[1:2]
        facts = catalog.image_facts(name_of(0))
        assert facts.captures == 6
        assert facts.buckets == ["", "one"]
        assert facts.blocked_for is None
        assert facts.is_decoded
        assert catalog.image_facts(name_of(9)) is None
        catalog.block(name_of(0), "")
        assert catalog.image_facts(name_of(0)).blocked_for == ""
        assert catalog.blocked_reason(name_of(0)) == ""
        assert catalog.blocked_reason(name_of(1)) is None
        assert catalog.growth() == [(today(), 8, sum(10 * (n + 1) for n in (*range(7), 100)))]
        assert catalog.trouble_counts() == {"blocked": 1, "waiting": 0, "broken": 1}
        failures = [
            SeenFailure(ImageUrl(url, url, (url,)), reason, None, 60)
            for url, reason in (
                ("http://c.test/1", "timeout"),
                ("http://c.test/2", "timeout"),
                ("http://d.test/1", "html"),
            )
        ]
        catalog.remember_failures(failures, "")
        assert list(catalog.failure_counts("reason").items()) == [("timeout", 2), ("html", 1)]
        assert list(catalog.failure_counts("host").items()) == [("c.test", 2), ("d.test", 1)]
