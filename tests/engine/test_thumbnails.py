"""Thumbnails: made once, kept within a bound, and gone with their image."""

import asyncio
import os
import time
from contextlib import closing
from datetime import timedelta
from threading import Event

import pytest

from imgcache_scrapy.core.entry import content_hash_of, thumbnail_key
from imgcache_scrapy.core.errors import ConfigurationError, NotFoundError, UnavailableError
from imgcache_scrapy.core.selection import Selection
from imgcache_scrapy.engine.async_cache import AsyncImageCache
from imgcache_scrapy.engine.blobs.opening import open_blobs
from imgcache_scrapy.engine.blobs.thumbnails import Kept, KeptThumbnails, scan_thumbnails
from imgcache_scrapy.engine.cache import ImageCache
from imgcache_scrapy.engine.decoding.messages import NOT_DECODED, DecodeError, undecodable
from imgcache_scrapy.engine.late_decoding import MAX_ATTEMPTS
from imgcache_scrapy.engine.pruning import prune
from imgcache_scrapy.engine.takedown import TakeDown
from imgcache_scrapy.engine.thumbnails import Thumbnails, block_image
from imgcache_scrapy.engine.upkeep import Upkeep
from tests.support.pictures import picture
from tests.support.service import new_storage_environment
from tests.support.waiting import PATIENCE

URL = "http://a.test/image.png"
DATA = picture()
HASH = content_hash_of(DATA)
BROKEN = DATA[:200]


@pytest.fixture(params=["folder", "PostgreSQL and an object store"])
def cache(request, tmp_path, monkeypatch):
    """Open each kind of cache, with one image."""
    if request.param != "folder":
        servers = map(request.getfixturevalue, ("postgresql", "object_store"))
        for name, value in new_storage_environment(*servers).items():
            monkeypatch.setenv(name, value)
    with closing(ImageCache.in_folder(tmp_path / "cache")) as cache:
        cache.store(URL, DATA, "me")
        yield cache


@pytest.fixture
def thumbnails():
    with closing(Thumbnails()) as thumbnails:
        yield thumbnails


class Makers:
    """Counts the calls of a real maker, and may answer in its place."""

    def __init__(self, thumbnails, answer=None):
        self._make = thumbnails._maker.make
        self._answer = answer
        self.calls = 0
        thumbnails._maker.make = self.make

    def make(self, data):
        self.calls += 1
        return self._answer or self._make(data)


def is_kept(cache, content_hash=HASH):
    return cache.blobs.get_aside(thumbnail_key(content_hash)) is not None


def test_a_thumbnail_is_made_once_and_kept(cache, thumbnails):
    """The first call makes a thumbnail, later ones find it, also those of other processes."""
    assert thumbnails.find(cache, HASH) is None
    made = thumbnails.make(cache, HASH)
    assert made[:4] == b"RIFF"
    with closing(Thumbnails()) as others:
        assert others.find(cache, HASH) == thumbnails.find(cache, HASH) == made


def test_thumbnails_are_no_blobs(cache, thumbnails):
    """Upkeep, a rebuild and a backup see the blobs alone."""
    thumbnails.make(cache, HASH)
    assert {found.content_hash for found in cache.blobs.scan()} == {HASH}
    upkeep = Upkeep(cache)
    assert [found.state for found in upkeep.verify()] == ["sound"]
    assert list(upkeep.orphans(timedelta(0))) == []


def delete(cache):
    cache.delete(HASH)


def take_down(cache):
    TakeDown(Selection.of({"url_contains": "image"})).run(cache)


def take_down_and_block(cache):
    TakeDown(Selection.of({"url_contains": "image"}), block=True).run(cache)


def prune_all(cache):
    with cache.catalog.exclusive([HASH]) as transaction:
        transaction.connection.exec_driver_sql("UPDATE image SET last_used = 1")
    list(prune(cache, max_bytes=0))


def block(cache):
    block_image(cache, HASH, "no picture", "me")


@pytest.mark.parametrize("remove", [delete, take_down, take_down_and_block, prune_all, block])
def test_a_thumbnail_goes_with_its_image(cache, thumbnails, remove):
    """A deleted, pruned, taken down or blocked image has no thumbnail any more."""
    thumbnails.make(cache, HASH)
    remove(cache)
    assert not is_kept(cache)
    with pytest.raises(NotFoundError, match="blocked" if remove is block else "no image"):
        thumbnails.find(cache, HASH)


@pytest.mark.parametrize("remove", [delete, block])
def test_an_image_that_goes_while_its_thumbnail_is_made(cache, thumbnails, remove):
    """If the image goes after it was read, the thumbnail is neither shown nor kept."""
    make = thumbnails._maker.make

    def make_and_remove(data):
        found = make(data)
        remove(cache)
        return found

    thumbnails._maker.make = make_and_remove
    with pytest.raises(NotFoundError):
        thumbnails.make(cache, HASH)
    assert not is_kept(cache)


def test_gc_removes_what_crashes_left(cache, thumbnails):
    """Thumbnails of deleted and of blocked images, and temporary files, are orphans."""
    thumbnails.make(cache, HASH)
    gone, blocked = content_hash_of(b"gone"), content_hash_of(picture(2))
    cache.store(URL + "2", picture(2), "me")
    thumbnails.make(cache, blocked)
    cache.catalog.block(blocked, "no picture")
    keys = [thumbnail_key(gone), f"{thumbnail_key(HASH)}#0f"]
    for key in keys:
        cache.blobs.put_aside(key, b"left")
    upkeep = Upkeep(cache)
    assert list(upkeep.orphans(timedelta(0))) == []
    # Nobody can change the time of an object.
    found = list(upkeep._without_image(list(scan_thumbnails(cache.blobs)), time.time() + 60))
    assert {each.key for each in found} == {*keys, thumbnail_key(blocked)}
    assert all(upkeep.remove(each) for each in found)
    assert is_kept(cache)
    assert len(list(scan_thumbnails(cache.blobs))) == 1


def test_damage_is_repaired(cache, thumbnails):
    """A kept thumbnail with a wrong bit, of another image or of a later version is made again."""
    made = thumbnails.make(cache, HASH)
    key = thumbnail_key(HASH)
    kept = cache.blobs.get_aside(key)
    cache.store(URL + "2", picture(2), "me")
    thumbnails.make(cache, content_hash_of(picture(2)))
    other = cache.blobs.get_aside(thumbnail_key(content_hash_of(picture(2))))
    for wrong in (b"", kept[:-1], bytes([kept[0] ^ 1]) + kept[1:], kept[:-1] + b"x", other):
        cache.blobs.put_aside(key, wrong)
        assert thumbnails.find(cache, HASH) is None
        assert thumbnails.make(cache, HASH) == made
        assert thumbnails.find(cache, HASH) == made


def test_a_failure_is_remembered(cache, thumbnails):
    """What cannot be decoded is tried once, also by other processes; the reason is told."""
    # The catalog does not know it yet, as for an image that waits for late decoding.
    with cache.catalog.exclusive([HASH]) as transaction:
        transaction.connection.exec_driver_sql("UPDATE image SET width = NULL")
    makers = Makers(thumbnails, undecodable(DecodeError.TOO_SLOW))
    with pytest.raises(NotFoundError, match="takes too long"):
        thumbnails.make(cache, HASH)
    for each in (thumbnails, Thumbnails()):
        with pytest.raises(NotFoundError, match="takes too long"):
            each.find(cache, HASH)
    assert makers.calls == 1


def test_what_the_catalog_knows_is_not_tried(cache, thumbnails):
    """A picture that could not be decoded when it was stored is not decoded for a thumbnail."""
    cache.store(URL, BROKEN, "me")
    with pytest.raises(NotFoundError, match="broken"):
        thumbnails.find(cache, content_hash_of(BROKEN))


def test_a_decoder_without_an_answer_is_tried_again(cache, thumbnails):
    """After some attempts, this process gives the picture up; others may try it, because the
    machine may be the reason."""
    makers = Makers(thumbnails, NOT_DECODED)
    for _ in range(MAX_ATTEMPTS):
        assert thumbnails.find(cache, HASH) is None
        with pytest.raises(UnavailableError, match="try again"):
            thumbnails.make(cache, HASH)
    with pytest.raises(NotFoundError, match="takes too long"):
        thumbnails.find(cache, HASH)
    assert makers.calls == MAX_ATTEMPTS
    with closing(Thumbnails()) as others:
        assert others.find(cache, HASH) is None
        assert others.make(cache, HASH)[:4] == b"RIFF"
    assert is_kept(cache)


def test_a_damaged_image_has_none(cache, thumbnails):
    """An image whose bytes are damaged is marked, and has no thumbnail."""
    cache.blobs.put(HASH, b"other bytes")
    with pytest.raises(NotFoundError, match="damaged"):
        thumbnails.make(cache, HASH)
    with pytest.raises(NotFoundError, match="damaged"):
        thumbnails.find(cache, HASH)


def test_a_storage_that_takes_no_thumbnail(cache, thumbnails):
    """A thumbnail that cannot be kept is shown all the same."""

    def fail(*_):
        raise UnavailableError("no space is left")

    thumbnails._kept.put = fail
    assert thumbnails.make(cache, HASH)[:4] == b"RIFF"
    assert not is_kept(cache)


async def test_concurrent_calls_decode_once(tmp_path):
    """Calls for one image at the same time make one thumbnail, also if some callers go away."""
    cache = ImageCache.in_folder(tmp_path / "cache")
    cache.store(URL, DATA, "me")
    images = AsyncImageCache(lambda: cache, lambda each: each.close())
    makers = Makers(images._thumbnails)
    calls = [asyncio.create_task(images.thumbnail(HASH)) for _ in range(20)]
    while not images._being_made:  # noqa: ASYNC110
        await asyncio.sleep(0)
    calls.pop(0).cancel()
    found = await asyncio.gather(*calls)
    assert len(set(found)) == 1
    assert makers.calls == 1
    assert await images.thumbnail(HASH, "") == found[0]
    with pytest.raises(NotFoundError):
        await images.thumbnail(HASH, "another bucket")
    await images.aclose()


async def test_stores_do_not_wait_for_thumbnails(tmp_path):
    """While all makers of thumbnails are busy, stores, lookups and kept thumbnails go on."""
    cache = ImageCache.in_folder(tmp_path / "cache")
    images = AsyncImageCache(lambda: cache, lambda each: each.close())
    pictures = [picture(seed) for seed in range(10)]
    for seed, data in enumerate(pictures):
        await images.store(f"{URL}/{seed}", data, "me")
    kept = await images.thumbnail(content_hash_of(pictures[0]))
    may_go_on, make = Event(), images._thumbnails._maker.make

    def make_later(data):
        assert may_go_on.wait(PATIENCE)
        return make(data)

    images._thumbnails._maker.make = make_later
    waiting = [
        asyncio.create_task(images.thumbnail(content_hash_of(data))) for data in pictures[1:]
    ]
    while len(images._being_made) < len(waiting):  # noqa: ASYNC110
        await asyncio.sleep(0)
    assert (await images.store(URL, picture(50), "me"))["width"] == 32
    assert await images.lookup(URL) is not None
    assert await images.get_bytes(content_hash_of(pictures[3])) == pictures[3]
    assert await images.thumbnail(content_hash_of(pictures[0])) == kept
    assert not any(task.done() for task in waiting)
    may_go_on.set()
    assert len(set(await asyncio.gather(*waiting))) == len(waiting)
    await images.aclose()


@pytest.mark.parametrize("kind", ["folder", "memory"])
def test_the_oldest_go(tmp_path, kind):
    """Thumbnails together keep below the bound, and the newest ones stay."""
    blobs = open_blobs((tmp_path / "blobs").as_uri() if kind == "folder" else "memory:///")
    kept = KeptThumbnails(256 * 20_000)
    names = [f"ab{number:062x}" for number in range(60)]
    for number, name in enumerate(names):
        kept.put(blobs, name, Kept(bytes(1000)))
        if kind == "folder":
            os.utime(tmp_path / "blobs" / thumbnail_key(name), (number, number))
        total = sum(found.size for found in blobs.scan_aside("thumbnails/ab"))
        assert total <= 20_000
    found = [name for name in names if kept.get(blobs, name)]
    assert len(found) >= 15
    if kind == "folder":
        assert found == names[-len(found) :]


def test_a_bound_of_zero_keeps_none(tmp_path, monkeypatch):
    """`IMGCACHE_MAX_THUMBNAIL_BYTES` is the bound; 0 keeps none, and another text is refused."""
    monkeypatch.setenv("IMGCACHE_MAX_THUMBNAIL_BYTES", "0")
    with closing(Thumbnails()) as thumbnails, closing(ImageCache.in_folder(tmp_path)) as cache:
        cache.store(URL, DATA, "me")
        assert thumbnails.make(cache, HASH)
        assert not is_kept(cache)
    monkeypatch.setenv("IMGCACHE_MAX_THUMBNAIL_BYTES", "much")
    with pytest.raises(ConfigurationError, match="IMGCACHE_MAX_THUMBNAIL_BYTES"):
        Thumbnails()
