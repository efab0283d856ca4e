"""BlockedHashes: which images a cache blocks, for images that are found elsewhere."""

import time
from collections.abc import Awaitable, Callable, Iterable
from collections.abc import Set as AbstractSet
from contextlib import suppress

from imgcache_scrapy.core.blocked import BlockedImage, BlockedSource
from imgcache_scrapy.core.concurrency import Batcher

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
        # All that wait resume together. With a lock they would resume one after the other, and each
        # further image would have to wait behind them.
        self._reads: Batcher[None, None] = Batcher(self._read_if_due, max_batch=1)

    async def known(self) -> AbstractSet[str]:
        """Return the hashes; if the cache is in trouble, those that it said before.

        The empty text is among them if the cache blocks a host or a URL.
        """
        if not self._is_recent():
            await self._reads.ask(None)
        return self._hashes

    def are_none(self) -> bool:
        """Return whether there are none; False if the cache was not asked in the last minute."""
        return self._is_recent() and not self._hashes

    def _is_recent(self) -> bool:
        return time.monotonic() < self._due

    async def _read_if_due(self, _questions: list[None]) -> dict[None, None]:
        if not self._is_recent():
            with suppress(Exception):  # The breaker has logged it.
                found = await self._read()
                self._hashes = frozenset(each["content_hash"] or "" for each in found)
            self._due = time.monotonic() + _SECONDS
        return {}
