"""BlockedHashes: which images a cache blocks, for images that are found elsewhere."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from collections.abc import Set as AbstractSet
from contextlib import suppress

from imgcache_scrapy.core.blocked import BlockedImage, BlockedSource

# After this time the cache is asked again.
_SECONDS = 60.0


class BlockedHashes:
    """The hashes of all images that a cache blocks, as it said in the last minute.

    A lookup tells which images of the cache are blocked. This is for images that wait in a spool,
    and for local files.

    Args:
        read: reads the lists of blocked images, and of blocked hosts and URLs, from the cache.
    """

    def __init__(
        self, read: Callable[[], Awaitable[Iterable[BlockedImage | BlockedSource]]]
    ) -> None:
        self._read = read
        self._hashes: frozenset[str] = frozenset()
        self._due = float("-inf")
        self._reading = asyncio.Lock()

    async def known(self) -> AbstractSet[str]:
        """Return the hashes; if the cache is in trouble, those that it said before.

        The empty text is among them if the cache blocks a host or a URL.
        """
        async with self._reading:
            if time.monotonic() >= self._due:
                with suppress(Exception):  # The breaker has logged it.
                    found = await self._read()
                    self._hashes = frozenset(each["content_hash"] or "" for each in found)
                self._due = time.monotonic() + _SECONDS
        return self._hashes
