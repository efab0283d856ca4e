"""SizeCap: keeps a cache under a size while images are stored."""

import asyncio
import functools
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

from imgcache_scrapy.engine.cache import ImageCache
from imgcache_scrapy.engine.catalog.last_use import Rule
from imgcache_scrapy.engine.pruning import prune

logger = logging.getLogger(__name__)

T = TypeVar("T")

# The part of the maximum that is made free at once, so that not each store has to remove images.
_SLACK = 0.005
# Other processes store images, too. Counting again takes at most this part of the time.
_COUNTING_PART = 0.05
_MIN_SECONDS = 1.0


class Run(Protocol):
    """Calls a function with the cache, in a thread."""

    def __call__(self, call: Callable[[ImageCache], T], /) -> Awaitable[T]:
        """Return the result."""


class SizeCap:
    """Removes the images that were not used for the longest time before new ones are stored.

    Images that were used today stay; if they alone are too large, there is one warning.

    Args:
        max_bytes: the maximum size of all images together.
        run: calls a function with the cache, in a thread.
        record_uses: records which images this process has used.
    """

    def __init__(
        self, max_bytes: int, run: Run, record_uses: Callable[[], Awaitable[None]]
    ) -> None:
        self._max_bytes = max_bytes
        self._run = run
        self._record_uses = record_uses
        self._lock = asyncio.Lock()
        self._total = 0
        self._count_again_at = float("-inf")
        self._has_warned = False

    async def make_room(self, size: int) -> None:
        """Remove images until new ones have room.

        Args:
            size: the size of the new images in bytes.

        Raises:
            ImgCacheError: the catalog or the storage fails.
        """
        async with self._lock:
            is_over = self._total + size > self._max_bytes and not self._has_warned
            if is_over or time.monotonic() >= self._count_again_at:
                await self._count()
            if self._total + size > self._max_bytes:
                await self._free(size)
            self._total += size

    async def _count(self) -> None:
        start = time.monotonic()
        self._total = await self._run(lambda cache: cache.catalog.total_bytes())
        end = time.monotonic()
        self._count_again_at = end + max(_MIN_SECONDS, (end - start) / _COUNTING_PART)

    async def _free(self, size: int) -> None:
        await self._record_uses()
        wanted = max(0, int(self._max_bytes * (1 - _SLACK)) - size)
        await self._run(functools.partial(_prune, max_bytes=wanted))
        await self._count()
        is_over = self._total + size > self._max_bytes and not self._has_warned
        # Others may have stored images meanwhile, for which the next store makes room.
        if is_over and not await self._run(_may_remove_more):
            self._has_warned = True
            logger.warning(
                "The images that were used today need more than the %d bytes that the cache may"
                " have: none of them is removed, so the cache becomes larger",
                self._max_bytes,
            )


def _prune(cache: ImageCache, max_bytes: int) -> None:
    for _ in prune(cache, max_bytes=max_bytes):
        pass


def _may_remove_more(cache: ImageCache) -> bool:
    return bool(cache.catalog.unused(1, None, Rule(), meets=False))
