"""UseRecorder: batches, trouble, and images that come to the cache later."""

import asyncio
from contextlib import suppress

import pytest

from imgcache_scrapy import AsyncImgCacheClient
from imgcache_scrapy.client import use_recorder
from imgcache_scrapy.client.breaker import Breaker
from imgcache_scrapy.client.use_recorder import UseRecorder
from imgcache_scrapy.core.entry import content_hash_of
from imgcache_scrapy.core.image_url import ImageUrl
from imgcache_scrapy.core.uses import NewUse
from tests.support.waiting import wait_until

URL = "http://h.example/a.gif"


class Recorded:
    """A recorder with a cache in a folder, and what it has told."""

    def __init__(self, folder):
        self.client = AsyncImgCacheClient(str(folder))
        self.recorded, self.lost = [], []
        self.breaker = Breaker(
            self.client.health, on_failure=lambda *_: None, on_close=lambda: None
        )
        self.recorder = UseRecorder(
            self.client.transport,
            self.breaker,
            "",
            on_recorded=self.recorded.append,
            on_lost=lambda count, reason: self.lost.append((count, str(reason))),
        )

    async def close(self):
        await self.recorder.aclose()
        await self.breaker.aclose()
        found = await self.client.list_uses()
        await self.client.aclose()
        return found


@pytest.fixture
def recorded(tmp_path):
    return Recorded(tmp_path / "cache")


def use_of(number, data=b"GIF89a"):
    """Return a use of an image at a place."""
    values = {"content_hash": content_hash_of(data), "position": number}
    return NewUse.of(ImageUrl.of(URL), values)


async def test_full_batches_are_sent_at_once(recorded):
    """They do not wait for the time of a batch; the rest is sent when the recorder closes."""
    await recorded.client.store(URL, b"GIF89a", "me")
    recorded.recorder.add(use_of(number) for number in range(1, 601))
    await asyncio.to_thread(wait_until, lambda: sum(recorded.recorded) >= 500)
    assert len(await recorded.close()) == 600
    assert (recorded.recorded, recorded.lost) == ([250, 250, 100], [])


async def test_an_image_may_come_later(recorded):
    """A use whose image waits in the spool is recorded at the end, if the image came then."""
    await recorded.client.store(f"{URL}?other", b"GIF89a other", "me")
    recorded.recorder.add([*map(use_of, range(1, 251)), use_of(1, b"GIF89a never")])
    await asyncio.sleep(0)
    recorded.recorder.add(use_of(number, b"GIF89a never") for number in range(2, 300))
    await asyncio.to_thread(wait_until, lambda: not recorded.recorder._waiting)
    await recorded.client.store(URL, b"GIF89a", "me")
    assert len(await recorded.close()) == 250
    assert (sum(recorded.recorded), sum(count for count, _ in recorded.lost)) == (250, 299)


async def test_uses_wait_while_the_cache_is_in_trouble(recorded, monkeypatch):
    """They are sent again in their order; only a bounded number waits."""
    monkeypatch.setattr(use_recorder, "_SECONDS_AFTER_TROUBLE", 0.01)
    monkeypatch.setattr(use_recorder, "_MAX_WAITING", 300)
    await recorded.client.store(URL, b"GIF89a", "me")
    for _ in range(3):
        with suppress(OSError):
            async with recorded.breaker.call("lookup"):
                raise OSError
    assert recorded.breaker.is_open
    recorded.recorder.add(use_of(number) for number in range(1, 302))
    await asyncio.sleep(0.05)
    assert (recorded.recorded, recorded.lost) == ([], [(1, "the cache does not take them in time")])
    assert await recorded.breaker.try_to_close()
    found = await recorded.close()
    assert [use["position"] for use in found] == list(range(300, 0, -1))
    assert sum(recorded.recorded) == 300


async def test_what_a_broken_cache_does_not_take_is_lost_at_the_end(recorded):
    """The end of a crawl does not wait for it."""
    await recorded.client.store(URL, b"GIF89a", "me")
    recorded.breaker.is_open = True
    recorded.recorder.add([use_of(1), use_of(2)])
    assert await recorded.close() == []
    ((count, reason),) = recorded.lost
    assert (count, recorded.recorded) == (2, [])
    assert "is not called until it works again" in reason
