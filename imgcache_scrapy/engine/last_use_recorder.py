"""LastUseRecorder: records in the background which images a process uses, with the day."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress

from imgcache_scrapy.core.batches import batches
from imgcache_scrapy.engine.catalog.rows import today

logger = logging.getLogger(__name__)

_SECONDS = 5
_BATCH_SIZE = 500
# Of about 100 bytes each. If a process uses more images in a day, some are recorded twice.
_MAX_NOTED = 200_000


class LastUseRecorder:
    """Notes which images are used, and records each once a day; use it within one event loop.

    Args:
        record: records that images were used today.
    """

    def __init__(self, record: Callable[[list[str]], Awaitable[None]]) -> None:
        self._record = record
        self._day = 0
        self._noted: set[str] = set()
        self._waiting: set[str] = set()
        self._is_closed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def note(self, content_hashes: Iterable[str]) -> None:
        """Note that images are used."""
        if self._day != today() or len(self._noted) > _MAX_NOTED:
            self._day = today()
            self._noted = set()
        new = set(content_hashes) - self._noted
        if new:
            self._noted |= new
            self._waiting |= new
            if self._task is None or self._task.done():
                self._task = asyncio.create_task(self._run())

    async def record(self) -> None:
        """Record now what is noted."""
        used, self._waiting = sorted(self._waiting), set()
        try:
            for batch in batches(used, _BATCH_SIZE):
                await self._record(list(batch))
        except Exception as error:
            # The cache may be read-only, or down: the calls of the crawl tell the user.
            logger.debug("The use of %d images is not recorded: %s", len(used), error)

    async def aclose(self) -> None:
        """Record what is noted."""
        self._is_closed.set()
        if self._task is not None:
            await self._task

    async def _run(self) -> None:
        while self._waiting:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._is_closed.wait(), _SECONDS)
            await self.record()
