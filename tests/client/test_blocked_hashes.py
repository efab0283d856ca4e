"""What a cache blocks, as local and spooled images ask for it."""

import asyncio

import pytest

from imgcache_scrapy.client.blocked_hashes import BlockedHashes
from tests.support.waiting import settled

BLOCKED = "a" * 64


class Cache:
    """A cache whose list of blocked images arrives when a test says so."""

    def __init__(self, *hashes):
        self.entries = [{"content_hash": each} for each in hashes]
        self.arrives = asyncio.Event()
        self.calls = 0

    async def read(self):
        self.calls += 1
        await self.arrives.wait()
        return self.entries


async def test_all_that_wait_for_the_list_resume_together():
    cache = Cache(BLOCKED)
    hashes = BlockedHashes(cache.read)
    waiting = [asyncio.create_task(hashes.known()) for _ in range(500)]
    await settled()
    cache.arrives.set()
    await settled()
    assert [each.done() for each in waiting] == [True] * 500
    assert {each.result() for each in waiting} == {frozenset({BLOCKED})}
    assert cache.calls == 1


async def test_a_recent_list_is_known_at_once():
    cache = Cache()
    hashes = BlockedHashes(cache.read)
    assert not hashes.are_none()
    cache.arrives.set()
    await hashes.known()
    assert hashes.are_none()
    # It ends at its first step: nothing is awaited.
    with pytest.raises(StopIteration):
        hashes.known().send(None)


async def test_a_cache_that_blocks_an_image_does_not_block_nothing():
    cache = Cache(BLOCKED)
    cache.arrives.set()
    hashes = BlockedHashes(cache.read)
    await hashes.known()
    assert not hashes.are_none()
