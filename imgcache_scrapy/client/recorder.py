"""FailureRecorder: sends the failures that a crawl sees to its cache, in batches."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from imgcache_scrapy.core.failures import SeenFailure

# A batch is sent when it has this number of failures, or after this time.
_MAX_BATCH = 100
_SECONDS = 1.0
# More failures are not remembered: the cache is too slow.
_MAX_WAITING = 10_000


class FailureRecorder:
    """Collects failures and sends them in the background, so that no item waits for it.

    A batch that the cache does not take is lost: its URLs are only asked again.

    Args:
        send: sends a batch to the cache.
    """

    def __init__(self, send: Callable[[list[SeenFailure]], Awaitable[None]]) -> None:
        self._send = send
        self._waiting: dict[str, SeenFailure] = {}
        self._is_due = asyncio.Event()
        self._is_closing = False
        self._task: asyncio.Task[None] | None = None

    def add(self, failure: SeenFailure) -> None:
        """Record a failure; the last one of a URL counts."""
        if len(self._waiting) >= _MAX_WAITING:
            return
        self._waiting[failure.url.url] = failure
        if len(self._waiting) >= _MAX_BATCH or self._is_closing:
            self._is_due.set()
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._send_all())

    async def aclose(self) -> None:
        """Send what is waiting."""
        self._is_closing = True
        self._is_due.set()
        if self._task is not None:
            await self._task

    async def _send_all(self) -> None:
        while self._waiting:
            with suppress(TimeoutError):
                async with asyncio.timeout(_SECONDS):
                    await self._is_due.wait()
            batch = [self._waiting.pop(url) for url in list(self._waiting)[:_MAX_BATCH]]
            if len(self._waiting) < _MAX_BATCH and not self._is_closing:
                self._is_due.clear()
            with suppress(Exception):  # The breaker has logged it.
                await self._send(batch)
