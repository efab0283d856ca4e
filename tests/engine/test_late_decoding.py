"""Images that are not decoded when they are stored: they are decoded later, or given up."""

import asyncio

import pytest
from PIL import Image

from imgcache_scrapy.core.entry import content_hash_of
from imgcache_scrapy.core.errors import UnavailableError
from imgcache_scrapy.engine.async_cache import AsyncImageCache
from imgcache_scrapy.engine.decoding.decoders import Decoders, TimeLimits
from imgcache_scrapy.engine.late_decoding import MAX_ATTEMPTS, decode_next
from imgcache_scrapy.engine.store_request import StoreRequest
from imgcache_scrapy.engine.upkeep import Upkeep
from tests.support import lists
from tests.support.pictures import encoded, picture
from tests.support.waiting import PATIENCE

# With more pixels than a quick picture may have.
SLOW = encoded(Image.new("L", (3_000, 2_000)), "PNG")
URL = "http://a.test/slow.png"
OTHER = "http://other.test/a.png"


async def wait_until_decoded(images):
    """Wait until the picture has a width."""
    async with asyncio.timeout(PATIENCE):
        while (await images.lookup(URL))["width"] is None:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


def size_of(cache, url=URL):
    """Return the width, height and decode error that the catalog has for a URL."""
    content_hash = cache.catalog.lookup_many([url])[url]["content_hash"]
    image = cache.catalog.images([content_hash])[content_hash]
    return image.width, image.height, image.decode_error


def test_a_slow_picture_is_stored_at_once_and_decoded_later(cache):
    """A store does not wait for a slow picture; `decode_next` adds the size and the hash."""
    entry = cache.store(URL, SLOW, "me")
    assert (entry["width"], size_of(cache)) == (None, (None, None, None))
    assert decode_next(cache) == content_hash_of(SLOW)
    assert size_of(cache) == (3_000, 2_000, None)
    found = cache.catalog.lookup_many([URL])[URL]
    assert lists.similar(cache.catalog, found["perceptual_hash"], 0)[0]["url"] == URL
    assert decode_next(cache) is None


def test_the_oldest_picture_comes_first(cache):
    """Pictures are decoded in the order in which they were stored."""
    pictures = [SLOW + bytes([number]) for number in range(5)]
    for number, data in enumerate(pictures):
        cache.store(f"{URL}/{number}", data, "me")
    tried = [decode_next(cache) for _ in pictures]
    assert tried == [content_hash_of(data) for data in pictures]


def store_slow_pictures(cache, count):
    """Store slow pictures of one caller."""
    for number in range(count):
        cache.store(f"{URL}/{number}", SLOW + bytes([number]), "many")


@pytest.mark.parametrize("count", [20, pytest.param(250, marks=pytest.mark.endurance)])
def test_a_quick_picture_does_not_wait_for_many_slow_ones(cache, count):
    """While slow pictures of one caller wait, and one is being decoded, another's has its size."""
    store_slow_pictures(cache, count)
    with cache.decoders._full._lock:  # As while a slow picture is being decoded.
        entry = cache.store(OTHER, picture(1), "other")
    assert entry["width"] == 32
    assert entry["perceptual_hash"] is not None


def test_slow_pictures_that_are_never_decoded_do_not_stop_another(cache):
    """A slow picture of another caller has its turn when those before it are given up."""
    store_slow_pictures(cache, 5)
    cache.store(OTHER, SLOW, "other")
    decoders = cache.decoders
    cache.decoders = Decoders(TimeLimits(slow_picture=0))
    for _ in range(5 * MAX_ATTEMPTS):
        assert decode_next(cache) != content_hash_of(SLOW)
    cache.decoders.close()
    cache.decoders = decoders
    assert decode_next(cache) == content_hash_of(SLOW)
    assert size_of(cache, OTHER) == (3_000, 2_000, None)


def test_a_quick_picture_in_a_batch_of_slow_ones_is_decoded_later(cache):
    """Slow pictures may use up the time of a batch; the others in it get their size afterwards."""
    cache.decoders.close()
    cache.decoders = Decoders(TimeLimits(PATIENCE, 1e-9, PATIENCE))
    requests = [StoreRequest.of(f"{URL}/{n}", SLOW + bytes([n]), "many") for n in range(5)]
    *_, entry = cache.store_many([*requests, StoreRequest.of(OTHER, picture(1), "other")])
    assert (entry["width"], size_of(cache, OTHER)) == (None, (None, None, None))
    while decode_next(cache) is not None:
        pass
    assert size_of(cache, OTHER) == (32, 32, None)


def test_a_picture_that_is_never_decoded_is_given_up(cache):
    """After the last attempt, the reason is `timeout`, and the picture is not tried again."""
    cache.decoders.close()
    cache.decoders = Decoders(TimeLimits(slow_picture=0))
    cache.store(URL, SLOW, "me")
    for _ in range(MAX_ATTEMPTS):
        assert size_of(cache) == (None, None, None)
        assert decode_next(cache) is not None
    assert size_of(cache) == (None, None, "timeout")
    assert decode_next(cache) is None
    assert cache.get_image(content_hash_of(SLOW))[0] == SLOW


def test_attempts_that_end_the_process_count(cache):
    """An attempt is counted before it is made: a picture cannot end the process for ever."""
    cache.store(URL, SLOW, "me")
    content_hash = content_hash_of(SLOW)
    for _ in range(MAX_ATTEMPTS):
        with cache.catalog.exclusive([content_hash]) as transaction:
            transaction.begin_decoding(content_hash)
    assert decode_next(cache) == content_hash
    assert size_of(cache) == (None, None, "timeout")


def test_an_outage_of_the_storage_is_no_attempt(cache, tmp_path):
    """While no blob can be read, a picture loses none of its attempts."""
    cache.store(URL, SLOW, "me")
    blobs = tmp_path / "cache/blobs"
    blobs.rename(tmp_path / "away")
    for _ in range(MAX_ATTEMPTS + 1):
        with pytest.raises(UnavailableError):
            decode_next(cache)
    (tmp_path / "away").rename(blobs)
    assert decode_next(cache) == content_hash_of(SLOW)
    assert size_of(cache) == (3_000, 2_000, None)


def test_a_damaged_picture_is_not_decoded(cache, tmp_path):
    """The bytes are checked before they are decoded."""
    cache.store(URL, SLOW, "me")
    (blob,) = (tmp_path / "cache/blobs").glob("*/*")
    blob.write_bytes(b"other")
    assert decode_next(cache) == content_hash_of(SLOW)
    assert cache.catalog.lookup_many([URL]) == {}
    assert decode_next(cache) is None


def test_verify_decodes_what_waits(cache):
    """`verify` also decodes the pictures that are not decoded yet."""
    cache.store(URL, SLOW, "me")
    assert list(Upkeep(cache).decode()) == [content_hash_of(SLOW)]
    assert size_of(cache) == (3_000, 2_000, None)


async def test_an_idle_cache_decodes_what_waits(cache):
    """After a store, the cache decodes slow pictures without being asked."""
    images = AsyncImageCache(lambda: cache, lambda _: None)
    entry = await images.store(URL, SLOW, "me")
    assert entry["width"] is None
    await wait_until_decoded(images)
    await images.aclose()


async def test_a_cache_that_is_closed_waits_for_one_picture(cache):
    """Closing waits for the picture that is being decoded, and leaves the others for later."""
    images = AsyncImageCache(lambda: cache, lambda _: None)
    stores = (images.store(f"{URL}/{n}", SLOW + bytes([n]), "me") for n in range(20))
    await asyncio.gather(*stores)
    await images.aclose()
    assert decode_next(cache) is not None


async def test_a_service_decodes_what_an_earlier_one_left(cache):
    """`decode_late` starts without a store."""
    cache.store(URL, SLOW, "me")
    images = AsyncImageCache(lambda: cache, lambda _: None)
    images.decode_late()
    await wait_until_decoded(images)
    await images.aclose()


def test_quick_pictures_are_decoded_at_once(cache):
    """An ordinary picture has its size and hash in the answer to the store."""
    entry = cache.store(URL, picture(1), "me")
    assert entry["width"] is not None
    assert entry["perceptual_hash"] is not None
