"""Stores of one batch: an image that cannot be stored costs no other image anything."""

import asyncio
import shutil
from contextlib import closing

import pytest
import sqlalchemy as sa

from imgcache_scrapy.core.entry import content_hash_of
from imgcache_scrapy.core.errors import (
    ConfigurationError,
    StoreFailedError,
    UnavailableError,
)
from imgcache_scrapy.engine.async_cache import AsyncImageCache
from imgcache_scrapy.engine.blobs.files import FileBlobs
from imgcache_scrapy.engine.blobs.objects import ObjectBlobs
from imgcache_scrapy.engine.catalog.database import is_common
from imgcache_scrapy.engine.store_request import StoreRequest
from tests.support import lists
from tests.support.bad_folders import block, one_image_per_folder, unblock
from tests.support.programs import assert_no_row_without_blob, blobs, images

URL = "http://a.test"


async def store_all(cache, found):
    """Store images at once, as the requests of many clients do; return the error of each."""
    awaited = AsyncImageCache(lambda: cache, lambda _: None)
    stores = (awaited.store(f"{URL}/{name}", data, "test") for name, data in found.items())
    results = await asyncio.gather(*stores, return_exceptions=True)
    await awaited.aclose()
    return {
        name: result if isinstance(result, Exception) else None
        for name, result in zip(found, results, strict=True)
    }


@pytest.mark.parametrize(("stored", "bad"), [(16, 1), (256, 8)])
async def test_only_the_images_of_bad_folders_fail(cache, folder, stored, bad):
    """Of 16 images one cannot be written, of 256 eight: all others are stored and found."""
    found = dict(sorted(one_image_per_folder().items())[:stored])
    bad_folders = sorted(found)[3::32][:bad]
    block(folder, bad_folders)
    errors = await store_all(cache, found)
    assert [name for name, error in errors.items() if error] == bad_folders
    assert {type(errors[name]) for name in bad_folders} == {StoreFailedError}
    good = {content_hash_of(found[name]) for name in found if name not in bad_folders}
    assert images(folder) == set(blobs(folder)) == good
    assert len(cache.catalog.lookup_many(f"{URL}/{name}" for name in found)) == stored - bad

    unblock(folder, bad_folders)
    assert set((await store_all(cache, found)).values()) == {None}
    assert_no_row_without_blob(folder)
    assert len(cache.catalog.lookup_many(f"{URL}/{name}" for name in found)) == stored


def test_a_blob_that_is_lost_before_the_commit_fails_alone(cache, folder):
    """A known image whose blob cannot be written again fails, and its URL is not recorded."""
    found = dict(sorted(one_image_per_folder().items())[:4])
    requests = [StoreRequest.of(f"{URL}/{name}", data, "test") for name, data in found.items()]
    assert not any(isinstance(each, Exception) for each in cache.store_many(requests))
    bad = sorted(found)[1]
    shutil.rmtree(folder / "blobs" / bad)
    block(folder, [bad])
    again = [StoreRequest.of(f"{URL}/again/{name}", data, "test") for name, data in found.items()]
    results = cache.store_many(again)
    assert [isinstance(each, StoreFailedError) for each in results] == [False, True, False, False]
    assert len(lists.search(cache.catalog, "/again/")) == 3


class CountedBlobs(FileBlobs):
    """Blobs in a folder that count the checks of the storage."""

    checks = 0

    def check(self):
        self.checks += 1
        super().check()


@pytest.mark.parametrize("is_known", [False, True])
async def test_a_lost_storage_fails_once_for_all(cache, folder, is_known):
    """If nothing can be written, a batch ends at its first image, and nothing is recorded."""
    counted = cache._unchecked_blobs = CountedBlobs(folder / "blobs")
    assert not is_known or counted.owner() == cache.catalog.cache_id
    shutil.rmtree(folder / "blobs")
    (folder / "blobs").write_bytes(b"no folder")
    found = dict(sorted(one_image_per_folder().items())[:16])
    errors = await store_all(cache, found)
    assert {type(error) for error in errors.values()} == {UnavailableError}
    assert len({id(error) for error in errors.values()}) == 1
    assert counted.checks <= 1
    assert images(folder) == set()


@pytest.mark.parametrize("lost", ["removed", "not mounted"])
async def test_no_blob_is_written_where_the_storage_was(cache, folder, lost):
    """A folder that was removed, or an empty one in its place, takes no blob."""
    shutil.rmtree(folder / "blobs")
    if lost == "not mounted":
        (folder / "blobs").mkdir()
    errors = await store_all(cache, dict(sorted(one_image_per_folder().items())[:16]))
    assert {type(error) for error in errors.values()} == {UnavailableError}
    assert images(folder) == set(blobs(folder)) == set()


def test_an_object_store_fails_for_each_image_alone(object_store, monkeypatch):
    """An object whose name the store refuses fails alone; if the store is down, all fail."""
    for name, value in object_store.environment.items():
        monkeypatch.setenv(name, value)
    found = {content_hash_of(data): data for data in one_image_per_folder().values()}
    some = dict(list(found.items())[:4])
    with closing(ObjectBlobs(object_store.new_bucket())) as blobs:
        failed = blobs.put_many({**some, "x" * 5000: b"no object has such a name"})
        assert list(failed) == ["x" * 5000]
        assert blobs.sizes(some) == {name: len(data) for name, data in some.items()}
        with pytest.raises(StoreFailedError):
            blobs.put("x" * 5000, b"no object has such a name")
    monkeypatch.setenv("AWS_ENDPOINT", "http://127.0.0.1:9")
    with closing(ObjectBlobs("s3://bucket")) as lost, pytest.raises(UnavailableError) as raised:
        lost.put_many(some)
    assert type(raised.value) is UnavailableError


def caused(error, cause):
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ValueError("one value"), False),
        (ConfigurationError("another catalog"), True),
        (UnavailableError("the storage"), True),
        (caused(UnavailableError("locked"), sa.exc.OperationalError("", {}, Exception())), True),
        (caused(UnavailableError("no connection"), sa.exc.TimeoutError()), True),
        (caused(UnavailableError("one value"), sa.exc.DataError("", {}, Exception())), False),
        (caused(UnavailableError("one page"), sa.exc.DatabaseError("", {}, Exception())), False),
    ],
    ids=str,
)
def test_errors_of_some_rows_are_told_from_errors_of_the_database(error, expected):
    """A batch is taken apart only if its error may concern some of its images."""
    assert is_common(error) is expected
