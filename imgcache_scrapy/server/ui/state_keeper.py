"""StateKeeper: keeps the sums over a cache for a minute, and adds them up beside the calls."""

import asyncio
import logging
import time
from datetime import UTC, datetime

from imgcache_scrapy.engine.async_cache import AsyncImageCache
from imgcache_scrapy.engine.async_gallery import CacheState

logger = logging.getLogger(__name__)

KEPT_SECONDS = 60
"""The time for which sums are kept."""
# If adding up takes long, it must not take a large part of the time.
_PAUSE = 10
# A small cache is added up in less: then the first page shows the sums.
_WAIT_SECONDS = 0.15


class StateKeeper:
    """Keeps the sums over a cache; use it within one event loop.

    Args:
        images: the cache.

    Attributes:
        last: the last sums; None if there are none yet.
        counted_at: when they were added up.
    """

    def __init__(self, images: AsyncImageCache) -> None:
        self._images = images
        self._task: asyncio.Task[None] | None = None
        self._due_at = 0.0
        self.last: CacheState | None = None
        self.counted_at: datetime | None = None

    async def state(self) -> CacheState | None:
        """Return the last sums at once, and add up again if they are older than a minute.

        Returns:
            The sums; None if they are not added up yet.
        """
        if self._task is None and time.monotonic() >= self._due_at:
            self._task = asyncio.create_task(self._count())
        if self._task is not None:
            await asyncio.wait([self._task], timeout=_WAIT_SECONDS)
        return self.last

    async def aclose(self) -> None:
        """Stop adding up, after the sum that is being made."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _count(self) -> None:
        start = time.monotonic()
        try:
            self.last = await self._images.state()
            self.counted_at = datetime.now(UTC)
        except Exception as error:
            logger.warning("The sums of the cache cannot be added up: %s", error)
        finally:
            took = time.monotonic() - start
            self._due_at = time.monotonic() + max(KEPT_SECONDS, _PAUSE * took)
            self._task = None
