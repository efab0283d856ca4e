"""Blobs that are lost while the catalog is kept: a hit has bytes, or somebody is told."""

import asyncio
import logging
import shutil
from contextlib import asynccontextmanager, closing

import pytest

from imgcache_scrapy.core.entry import blob_key, content_hash_of
from imgcache_scrapy.engine.async_cache import AsyncImageCache
from imgcache_scrapy.engine.cache import ImageCache
from tests.support.programs import catalog_of
from tests.support.waiting import PATIENCE

URL = "http://a.test"
PICTURES = {f"{URL}/{n}": b"image %d" % n for n in range(40)}
KEYS = list(PICTURES)


@asynccontextmanager
async def awaited(cache):
    """Open the awaited form of a cache; all that it has begun is done when it is closed."""
    images = AsyncImageCache(lambda: cache, lambda _: None)
    yield images
    await images.aclose()


def path_of(folder, key):
    return folder / "blobs" / blob_key(content_hash_of(PICTURES[key]))


def to_folder(path):
    path.unlink()
    path.mkdir()


LOSSES = [
    lambda path: path.unlink(missing_ok=True),
    lambda path: path.write_bytes(b""),
    to_folder,
    lambda path: shutil.rmtree(path.parent, ignore_errors=True),
]


@pytest.mark.parametrize("is_batch", [False, True])
async def test_a_hit_has_bytes(cache, folder, is_batch):
    """Images without blobs are misses at the first lookup, are marked, and the next store heals."""
    for key, data in PICTURES.items():
        cache.store(key, data, "test")
    for number, key in enumerate(KEYS[:30]):
        path_of(folder, key).parent.mkdir(exist_ok=True)
        path_of(folder, key).touch()
        LOSSES[number % len(LOSSES)](path_of(folder, key))
    kept = {key for key in KEYS if path_of(folder, key).is_file()}
    kept -= {key for key in kept if not path_of(folder, key).read_bytes()}
    async with awaited(cache) as images:
        if is_batch:
            assert (await images.lookup_many(KEYS)).entries.keys() == kept
        else:
            assert {key for key in KEYS if await images.lookup(key)} == kept
    assert cache.catalog.stats()["damaged"] == len(KEYS) - len(kept)
    assert cache.catalog.lookup_many(KEYS).keys() == kept
    for key, data in PICTURES.items():
        cache.store(key, data, "test")
    async with awaited(cache) as images:
        assert len((await images.lookup_many(KEYS)).entries) == len(KEYS)
    assert cache.catalog.stats()["damaged"] == 0


async def test_an_older_capture_answers_for_a_lost_one(cache, folder):
    """If the blob of the newest image of a URL is lost, the image before it is the hit."""
    for key in KEYS[:3]:
        cache.store(URL, PICTURES[key], "test")
    async with awaited(cache) as images:
        for key in (KEYS[2], KEYS[1], KEYS[0]):
            assert (await images.lookup(URL))["content_hash"] == content_hash_of(PICTURES[key])
            path_of(folder, key).unlink()
        assert await images.lookup(URL) is None


@pytest.mark.parametrize("has_mount_point", [False, True])
async def test_lookups_work_without_the_blobs(cache, folder, has_mount_point):
    """If the folder of the blobs is not mounted, lookups trust the catalog, and mark nothing."""
    for key, data in PICTURES.items():
        cache.store(key, data, "test")
    (folder / "blobs").rename(folder / "elsewhere")
    if has_mount_point:
        (folder / "blobs").mkdir()
    async with awaited(cache) as images:
        assert len((await images.lookup_many(KEYS)).entries) == len(KEYS)
    assert cache.catalog.stats()["damaged"] == 0


async def test_a_lookup_waits_for_no_writer(cache, folder):
    """While another process writes, an image without its blob is a miss at once."""
    cache.store(KEYS[0], PICTURES[KEYS[0]], "test")
    path_of(folder, KEYS[0]).unlink()
    async with awaited(cache) as images:
        with catalog_of(folder) as writer:
            writer.execute("BEGIN IMMEDIATE")
            async with asyncio.timeout(PATIENCE):
                assert (await images.lookup_many([KEYS[0]])).entries == {}
            assert cache.catalog.stats()["damaged"] == 0
            writer.execute("COMMIT")
    assert cache.catalog.stats()["damaged"] == 1


async def test_what_was_stored_or_deleted_meanwhile_is_not_marked(cache, folder):
    """The blob is looked for again before an image is marked."""
    for key in KEYS[:2]:
        cache.store(key, PICTURES[key], "test")
        path_of(folder, key).unlink()
    async with awaited(cache) as images:
        with catalog_of(folder) as writer:
            writer.execute("BEGIN IMMEDIATE")
            assert (await images.lookup_many(KEYS[:2])).entries == {}
            path_of(folder, KEYS[0]).write_bytes(PICTURES[KEYS[0]])
            deleted = content_hash_of(PICTURES[KEYS[1]])
            for table in ("capture", "image"):
                writer.execute(f"DELETE FROM {table} WHERE content_hash = ?", [deleted])
            writer.execute("COMMIT")
    assert cache.catalog.stats() == {"images": 1, "captures": 1, "bytes": 7, "damaged": 0}


@pytest.mark.parametrize("lost", [0, 20, 40])
def test_an_object_store_without_blobs_is_reported(
    object_store, database_url, monkeypatch, caplog, lost
):
    """Opening looks for a sample of the blobs, and warns once if some are lost."""
    for name, value in object_store.environment.items():
        monkeypatch.setenv(name, value)
    blobs_url = object_store.new_bucket()
    with closing(ImageCache(database_url, blobs_url)) as cache:
        for key, data in PICTURES.items():
            cache.store(key, data, "test")
        for key in KEYS[:lost]:
            cache.blobs.delete(content_hash_of(PICTURES[key]))
    with (
        caplog.at_level(logging.WARNING, logger="imgcache_scrapy"),
        closing(ImageCache(database_url, blobs_url)) as cache,
    ):
        assert len(cache.catalog.lookup_many(KEYS)) == len(KEYS)
        assert cache.catalog.stats()["damaged"] == 0
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == (lost > 0)
    assert all("`imgcache verify`" in message for message in messages)
