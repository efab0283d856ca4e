"""Copies in the engine, on SQLite and PostgreSQL: equal captures, races, old rows, wrong blobs."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime

import pytest

from imgcache_scrapy.core.entry import content_hash_of
from imgcache_scrapy.engine.cache import ImageCache
from imgcache_scrapy.engine.catalog.tables import capture, image
from imgcache_scrapy.engine.copy_source import CacheSource
from imgcache_scrapy.engine.copying import Callbacks, Copy
from imgcache_scrapy.engine.store_request import StoreRequest
from imgcache_scrapy.engine.upkeep import Upkeep
from tests.support import lists, many_captures, schema_3
from tests.support.schema_3 import OldCapture

URL = "http://h.example/a.gif"
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.fixture
def source(new_database, tmp_path):
    """Open an empty cache; once on SQLite, once on PostgreSQL."""
    with closing(ImageCache(new_database(), (tmp_path / "source").as_uri())) as cache:
        yield cache


@pytest.fixture
def target(new_database, tmp_path):
    """Open another empty cache on the same kind of database."""
    with closing(ImageCache(new_database(), (tmp_path / "target").as_uri())) as cache:
        yield cache


def run(source, target, **callbacks):
    """Copy a cache, and return the counts."""
    with closing(Copy(CacheSource(source), target.catalog, target, Callbacks(**callbacks))) as copy:
        return copy.run()


def history(cache, url=URL):
    """Return the images of a URL, newest first, with the times of its captures."""
    found = lists.history(cache.catalog, [url])
    return [(each["content_hash"], each["lookup_time"], each["created_at"]) for each in found]


def store(cache, *images, at=NOON):
    """Store images under one URL in one transaction, so that all have one creation time."""
    cache.store_many([StoreRequest.of(URL, each, "me", lookup_time=at) for each in images])


@pytest.mark.parametrize("page", [1, 2, 3, 1000])
def test_equal_captures_are_all_copied(source, target, page):
    """Captures that differ in nothing but their number are as many in the copy, page by page."""
    source.catalog.max_page_rows = page
    store(source, b"GIF89a 1", b"GIF89a 2", b"GIF89a 1", b"GIF89a 2", b"GIF89a 1")
    with pytest.raises(InterruptedError):
        run(source, target, on_progress=_interrupt)
    assert len(history(target)) == min(page, 5)
    run(source, target)
    assert history(target) == history(source)
    assert run(source, target)["known"] == 5
    assert len(history(target)) == 5


def _interrupt(_count):
    raise InterruptedError


@pytest.mark.parametrize("page", [1, 1000])
def test_a_renewed_capture_is_not_taken_for_its_twin(source, target, page):
    """Of two captures of one transaction, only the one that was renewed changes in the copy."""
    source.catalog.max_page_rows = page
    store(source, b"GIF89a 1", b"GIF89a 2", b"GIF89a 1")
    run(source, target)
    store(source, b"GIF89a 1", at=datetime.now(UTC))
    assert run(source, target)["renewed"] == 1
    assert history(target) == history(source)
    # What the copy renews by itself later stays.
    store(target, b"GIF89a 1", at=datetime.now(UTC))
    renewed = history(target)
    assert run(source, target)["renewed"] == 0
    assert history(target) == renewed


def test_stores_during_a_copy_come_along(source, target, tmp_path):
    """What the source stores on a page that is still to come is copied in the same run."""
    source.catalog.max_page_rows = 10
    many_captures.fill(source, tmp_path / "source", [f"http://h.example/{n}" for n in range(30)])
    stored = iter([b"GIF89a new", b"GIF89a newer"])

    def store_one(_count):
        if data := next(stored, None):
            source.store(URL, data, "me")
            target.store(f"{URL}?own", data, "me")

    counts = run(source, target, on_progress=store_one)
    assert counts["copied"] == counts["captures"] == 32
    assert counts["images"] == 30
    assert history(target) == history(source)


def test_two_copies_at_the_same_time(source, target, tmp_path):
    """Together they write nothing twice."""
    many_captures.fill(source, tmp_path / "source", [f"http://h.example/{n}" for n in range(900)])
    for number in range(20):
        source.catalog.block(f"{number:064}", "no")
    with ThreadPoolExecutor() as threads:
        both = [threads.submit(run, source, target) for _ in range(2)]
        copied = sum(each.result()["copied"] for each in both)
    assert copied == 900
    assert target.catalog.stats() == source.catalog.stats()
    assert target.catalog.audit_page() == source.catalog.audit_page()
    assert target.catalog.blocked_page() == source.catalog.blocked_page()


def test_what_is_deleted_meanwhile_is_no_damage(source, target, tmp_path):
    """Neither an image that the source deletes during the copy nor its captures are told."""
    many_captures.fill(source, tmp_path / "source", [URL, f"{URL}?2"])
    gone = source.catalog.lookup_many([URL])[URL]["content_hash"]
    reader = CacheSource(source)

    def read(name):
        if name == gone and source.catalog.known([name]):
            source.delete(name)
        return CacheSource.read(reader, name)

    reader.read = read
    problems = []
    callbacks = Callbacks(on_problem=lambda *problem: problems.append(problem))
    with closing(Copy(reader, target.catalog, target, callbacks)) as copy:
        counts = copy.run()
    assert (problems, counts["copied"], counts["bad"]) == ([], 1, 0)


def test_a_blob_that_is_deleted_meanwhile_is_written_again(source, target, tmp_path):
    """No row is written whose blob somebody has deleted since it was written."""
    (data,) = many_captures.fill(source, tmp_path / "source", [URL])
    name = content_hash_of(data)
    with closing(Copy(CacheSource(source), target.catalog, target, Callbacks())) as copy:
        write = copy._write

        def write_late(*args):
            target.delete_orphan(name)
            return write(*args)

        copy._write = write_late
        assert copy.run()["copied"] == 1
    assert target.get_image(name)[0] == data


def test_a_blob_that_cannot_be_written_is_told(source, target, tmp_path):
    """The others are copied; once it can be written, the next copy brings it."""
    many_captures.fill(source, tmp_path / "source", [URL, f"{URL}?2"])
    name = source.catalog.lookup_many([URL])[URL]["content_hash"]
    in_its_place = tmp_path / "target" / name[:2]
    in_its_place.write_bytes(b"no folder")
    problems = []
    counts = run(source, target, on_problem=lambda *problem: problems.append(problem))
    assert (counts["copied"], counts["images"], counts["bad"]) == (2, 1, 1)
    ((told, reason),) = problems
    assert told == name
    assert "the image storage failed for this image" in reason
    assert target.catalog.lookup_many([URL]) == {}
    in_its_place.unlink()
    assert run(source, target)["images"] == 1
    assert target.catalog.lookup_many([URL])[URL]["content_hash"] == name


def test_what_is_blocked_meanwhile_is_not_copied(source, target, tmp_path):
    """A block that comes between the blobs and the rows of a page holds, and no blob is left."""
    many_captures.fill(source, tmp_path / "source", [URL, f"{URL}?2"])
    name = source.catalog.lookup_many([URL])[URL]["content_hash"]
    with closing(Copy(CacheSource(source), target.catalog, target, Callbacks())) as copy:
        write = copy._write

        def block_first(*args):
            target.catalog.block(name, "no")
            return write(*args)

        copy._write = block_first
        counts = copy.run()
    assert (counts["copied"], counts["blocked"]) == (1, 1)
    assert target.blobs.get(name) is None


def test_a_decoded_image_is_decoded_in_the_copy(source, target, photos):
    """What the source learns about an image later comes with the next copy."""
    data = photos["cat.png"]
    name = source.store(URL, data, "me")["content_hash"]
    with source.catalog.exclusive([name]) as transaction:
        values = {"width": None, "height": None, "perceptual_hash": None, "last_used": 5}
        transaction.connection.execute(image.update().values(values))
    run(source, target)
    assert target.catalog.get_meta(name)["width"] is None
    assert target.catalog.image_rows([name])[name]["last_used"] == 5
    assert list(Upkeep(source).decode()) == [name]
    source.catalog.record_last_uses([name])
    run(source, target)
    assert target.catalog.image_rows([name]) == source.catalog.image_rows([name])


def test_captures_of_older_versions(new_database, target, tmp_path):
    """They get their keys and hosts in the copy, and are the same when the source has them, too."""
    url, blobs = "http://H.example/a.gif?b=1&a=2", tmp_path / "old"
    database = new_database()
    schema_3.make(database, [OldCapture(url, b"GIF89a 1")], blobs)
    with closing(ImageCache(database, blobs.as_uri())) as source:
        assert run(source, target)["copied"] == 1
        assert list(Upkeep(source).fill_keys()) == [1]
        assert run(source, target)["known"] == 1
        with target.catalog.reading() as connection:
            (row,) = connection.execute(capture.select()).all()
        assert (row.host, row.key) == ("h.example", "http://h.example/a.gif?a=2&b=1")
