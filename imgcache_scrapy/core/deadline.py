"""A timeout that leaves out the time in which our own event loop stood still."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from weakref import WeakKeyDictionary

_TICK_SECONDS = 0.02


@asynccontextmanager
async def timeout(seconds: float | None) -> AsyncIterator[None]:
    """Return a context that ends its block after some time, like `asyncio.timeout`.

    A hook that blocks the event loop also delays the answers that have arrived meanwhile. Such
    time does not count: otherwise a cache that answers in time would seem not to answer.

    Args:
        seconds: the time that the block may take; None for no limit.

    Raises:
        TimeoutError: the block took longer.
    """
    if seconds is None:
        yield
        return
    loop = asyncio.get_running_loop()
    with _stalls_of(loop).watched() as stalls:
        started, stalled_before = loop.time(), stalls.seconds
        async with asyncio.timeout(None) as limit:

            def end_when_due() -> None:
                due = started + seconds + stalls.seconds - stalled_before
                if loop.time() < due:
                    timers.append(loop.call_at(due, end_when_due))
                else:
                    limit.reschedule(loop.time())

            timers = [loop.call_at(started + seconds, end_when_due)]
            try:
                yield
            finally:
                timers[-1].cancel()


class _Stalls:
    """Measures how long an event loop stands still, while at least one timeout runs in it.

    A timer that is late shows it. The loop is passed to the methods, because an object that is
    kept as long as its loop must not keep the loop alive.
    """

    def __init__(self) -> None:
        self._users = 0
        self._seconds = 0.0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def seconds(self) -> float:
        """The seconds for which the loop has stood still so far."""
        return self._seconds + self._lateness()

    @contextmanager
    def watched(self) -> Iterator["_Stalls"]:
        """Return a context; the time is measured inside of it."""
        self._users += 1
        if self._users == 1:
            self._tick()
        try:
            yield self
        finally:
            self._users -= 1
            if not self._users and self._timer is not None:
                self._timer.cancel()
                self._timer = None

    def _tick(self) -> None:
        self._seconds += self._lateness()
        self._timer = asyncio.get_running_loop().call_later(_TICK_SECONDS, self._tick)

    def _lateness(self) -> float:
        if self._timer is None:
            return 0.0
        return max(0.0, asyncio.get_running_loop().time() - self._timer.when())


def _stalls_of(loop: asyncio.AbstractEventLoop) -> _Stalls:
    return _stalls.setdefault(loop, _Stalls())


_stalls: WeakKeyDictionary[asyncio.AbstractEventLoop, _Stalls] = WeakKeyDictionary()
