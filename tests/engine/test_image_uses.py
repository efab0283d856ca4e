"""The uses of images in the catalog, on SQLite and PostgreSQL: renewals, and what deletes them."""

import shutil
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest

from imgcache_scrapy.core.entry import content_hash_of
from imgcache_scrapy.core.image_url import ImageUrl
from imgcache_scrapy.core.selection import Selection
from imgcache_scrapy.core.uses import NewUse
from imgcache_scrapy.engine.backup import back_up
from imgcache_scrapy.engine.blobs.files import FileBlobs
from imgcache_scrapy.engine.cache import ImageCache
from imgcache_scrapy.engine.catalog.rows import today
from imgcache_scrapy.engine.catalog.tables import image
from imgcache_scrapy.engine.pruning import prune
from imgcache_scrapy.engine.rebuild import rebuild
from imgcache_scrapy.engine.takedown import TakeDown

A, B = b"GIF89a a", b"GIF89a b"
URL, OTHER = "http://h.example/a.gif", "http://b.example/a.gif"
PAGE = "http://shop.example/1"


@pytest.fixture
def any_cache(database_url, blobs_url):
    """Open an empty cache; once on SQLite, once on PostgreSQL."""
    with closing(ImageCache(database_url, blobs_url)) as cache:
        yield cache


def use_of(data=A, url=URL, **values):
    """Return a use to record."""
    given = {"content_hash": content_hash_of(data), "page_url": PAGE, "spider": "s", **values}
    return NewUse.of(ImageUrl.of(url), given)


def uses_in(cache, **wanted):
    return cache.catalog.uses_page(**wanted).entries


def test_the_same_use_in_the_next_job_renews_the_row(any_cache):
    """Crawls add no rows without bound: the last job, time, URL and texts replace the old ones."""
    signed = f"{URL}?X-Amz-Signature=1"
    any_cache.store(URL, A, "me", key=URL)
    for number in range(5):
        day = datetime(2026, 1, 1 + number, tzinfo=UTC)
        url = ImageUrl.of(f"{signed}{number}", URL)
        values = {"content_hash": content_hash_of(A), "page_url": PAGE, "position": 1}
        use = NewUse.of(url, {**values, "job": f"j{number}", "alt": f"alt {number}"})
        assert any_cache.catalog.record_uses([use._replace(used_at=day)]) == 1
    (found,) = uses_in(any_cache)
    assert (found["job"], found["alt"], found["url"]) == ("j4", "alt 4", f"{signed}4")
    assert found["first_used_at"] == "2026-01-01T00:00:00+00:00"
    assert found["used_at"] == "2026-01-05T00:00:00+00:00"


def test_an_older_use_does_not_replace_a_newer_one(any_cache):
    """A copy that is repeated, and times ahead of the clock, change nothing."""
    any_cache.store(URL, A, "me")
    now = datetime.now(UTC)
    for job, at in (("new", now + timedelta(days=9)), ("old", now - timedelta(days=9))):
        any_cache.catalog.record_uses([use_of(job=job, used_at=at)])
    (found,) = uses_in(any_cache)
    assert found["job"] == "new"
    assert datetime.fromisoformat(found["used_at"]) <= datetime.now(UTC)


def test_each_page_item_spider_place_and_bucket_is_a_use(any_cache):
    """Uses that differ in one of them are rows of their own, newest first."""
    any_cache.store(URL, A, "me")
    different = [{}, {"page_url": OTHER}, {"item": "1"}, {"spider": "t"}, {"position": 1}]
    different.append({"bucket": "b"})
    for values in (*different, {"job": "2"}):
        any_cache.catalog.record_uses([use_of(**values)])
    found = uses_in(any_cache)
    assert [{name: each[name] for name in want} for each, want in
            zip(found, reversed(different), strict=True)] == different[::-1]  # fmt: skip


def test_uses_of_unknown_images_are_left_out(any_cache):
    """Only what the cache has can be used; one call records the others, of any number."""
    any_cache.store(URL, A, "me")
    uses = [use_of(position=number) for number in range(1, 600)]
    assert any_cache.catalog.record_uses([use_of(B), *uses]) == 599
    found, after = [], None
    while True:
        page = any_cache.catalog.uses_page(limit=250, after=after)
        found += page.entries
        after = page.after
        if after is None:
            break
    assert {each["position"] for each in found} == set(range(1, 600))
    assert len(found) == 599


def test_uses_go_with_the_captures_of_their_url(any_cache):
    """A takedown of a host deletes its uses; those of other URLs of the same bytes stay."""
    for url in (URL, OTHER):
        any_cache.store(url, A, "me")
    any_cache.store(f"{URL}?b", B, "me")
    uses = [use_of(), use_of(url=OTHER), use_of(B, f"{URL}?b")]
    assert any_cache.catalog.record_uses(uses) == 3
    TakeDown(Selection.of({"host": "h.example"})).run(any_cache)
    assert [each["url"] for each in uses_in(any_cache)] == [OTHER]
    any_cache.delete(content_hash_of(A))
    assert uses_in(any_cache) == []


def test_uses_go_with_their_bucket_and_their_image(any_cache):
    """A delete in one bucket keeps the uses in another one; pruning deletes all of an image."""
    for bucket in ("", "b"):
        any_cache.store(URL, A, "me", bucket=bucket)
    any_cache.catalog.record_uses([use_of(), use_of(bucket="b")])
    any_cache.delete(content_hash_of(A), "b")
    assert [each["bucket"] for each in uses_in(any_cache)] == [""]
    with any_cache.catalog.exclusive([]) as transaction:
        transaction.connection.execute(image.update().values(last_used=today() - 9))
    assert sum(each.images for each in prune(any_cache, unused_for=timedelta(days=5))) == 1
    assert uses_in(any_cache) == []


def test_a_takedown_of_a_page_deletes_what_it_used(any_cache):
    """Only the captures of the used URLs go, with the bytes of which they are the last ones."""
    for url, data in ((URL, A), (OTHER, A), (f"{URL}?b", B)):
        any_cache.store(url, data, "me")
    any_cache.catalog.record_uses([use_of(), use_of(B, f"{URL}?b"), use_of(page_url=OTHER)])
    selection = Selection.of({"page_url": f"{PAGE}#part"})
    counts = TakeDown(selection, dry_run=True).run(any_cache)
    assert counts == TakeDown(selection).run(any_cache)
    assert (counts.captures, counts.images) == (2, 1)
    assert any_cache.catalog.lookup_many([URL, OTHER]).keys() == {OTHER}
    assert uses_in(any_cache) == []


def test_uses_survive_a_rebuild_and_a_backup(folder, tmp_path):
    """A new catalog has them, except for those of images that it does not have."""
    with closing(ImageCache.in_folder(folder)) as cache:
        cache.store(URL, A, "me")
        cache.store(OTHER, B, "me")
        cache.catalog.record_uses([use_of(alt="a", meta={"n": 1}), use_of(B, OTHER)])
        before = uses_in(cache)
        back_up(cache, tmp_path / "backup")
    with closing(ImageCache.in_folder(tmp_path / "backup", create=False)) as cache:
        assert uses_in(cache) == before
    shutil.rmtree(folder / "snapshots")
    with closing(FileBlobs(folder / "blobs")) as blobs:
        rebuild(folder / "catalog.sqlite3", blobs)
    with closing(ImageCache.in_folder(folder, create=False)) as cache:
        assert uses_in(cache) == before
        assert cache.catalog.damage() == []
        cache.delete(content_hash_of(B))
        assert uses_in(cache) == before[1:]
        assert cache.catalog.damage() == []
