"""Recorder: sends what a crawl sees to its cache, in batches and in the background."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Generic, TypeVar

T = TypeVar("T")

# A batch is sent when it has this number of values, or after this time.
_MAX_BATCH = 100
_SECONDS = 1.0
# More values are not recorded: the cache is too slow.
_MAX_WAITING = 10_000


class Recorder(Generic[T]):
    """Collects values and sends them in the background, so that no item waits for it.

    A batch that the cache does not take is lost, so record only what may be lost.

    Args:
        send: sends a batch to the cache.
        key: returns what identifies a value: the last one with a key counts.
    """

    def __init__(
        self, send: Callable[[list[T]], Awaitable[None]], key: Callable[[T], object]
    ) -> None:
        self._send = send
        self._key = key
        self._waiting: dict[object, T] = {}
        self._is_due = asyncio.Event()
        self._is_closing = False
        self._task: asyncio.Task[None] | None = None

    def add(self, value: T) -> None:
        """Record a value."""
        if len(self._waiting) >= _MAX_WAITING:
            return
        self._waiting[self._key(value)] = value
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
            batch = [self._waiting.pop(key) for key in list(self._waiting)[:_MAX_BATCH]]
            if len(self._waiting) < _MAX_BATCH and not self._is_closing:
                self._is_due.clear()
            with suppress(Exception):  # The breaker has logged it.
                await self._send(batch)
