"""Limiter: bounds how many calls run at the same time, and how long each may take."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from imgcache_scrapy.core.errors import UnavailableError

T = TypeVar("T")


class Limiter:
    """Bounds the number of calls that run at the same time, and the duration of each.

    Args:
        max_calls: maximum number of running calls; further calls wait, without a time limit.
        timeout: seconds for one call, counted from its start; None for no limit.
    """

    def __init__(self, max_calls: int, timeout: float | None) -> None:
        self._max_calls = max_calls
        self._timeout = timeout
        self._slots = asyncio.Semaphore(max_calls)

    async def run(self, call: Callable[[], Awaitable[T]]) -> T:
        """Run a call as soon as there is a free slot.

        Raises:
            UnavailableError: it took longer than the timeout.
        """
        async with self._slots:
            try:
                async with asyncio.timeout(self._timeout):
                    return await call()
            except TimeoutError as error:
                raise UnavailableError(
                    f"the cache gave no answer within {self._timeout} s"
                ) from error

    async def close(self) -> None:
        """Wait until no call is running, and start no further call."""
        for _ in range(self._max_calls):
            await self._slots.acquire()
