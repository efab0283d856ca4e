"""A timeout that leaves out the time in which our own event loop stood still."""

import asyncio
from types import TracebackType
from weakref import WeakKeyDictionary

_TICK_SECONDS = 0.02


class timeout:  # noqa: N801 - it is used like `asyncio.timeout`
    """A context that ends its block after some time, like `asyncio.timeout`.

    A hook that blocks the event loop also delays the answers that have arrived meanwhile. Such
    time does not count: otherwise a cache that answers in time would seem not to answer.

    Args:
        seconds: the time that the block may take; None for no limit.

    Raises:
        TimeoutError: the block took longer.
    """

    def __init__(self, seconds: float | None) -> None:
        self._seconds = seconds

    async def __aenter__(self) -> None:
        if self._seconds is None:
            return
        self._loop = asyncio.get_running_loop()
        self._stalls = _stalls_of(self._loop)
        self._stalls.begin()
        self._limit = asyncio.timeout(None)
        await self._limit.__aenter__()
        self._end = self._loop.time() + self._seconds - self._stalls.seconds
        self._timer = self._loop.call_later(self._seconds, self._end_when_due)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._seconds is not None:
            self._timer.cancel()
            self._stalls.end()
            await self._limit.__aexit__(kind, error, traceback)

    def _end_when_due(self) -> None:
        due = self._end + self._stalls.seconds
        if self._loop.time() < due:
            self._timer = self._loop.call_at(due, self._end_when_due)
        else:
            self._limit.reschedule(self._loop.time())


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

    def begin(self) -> None:
        """Start to measure; each call needs a later call of `end`."""
        self._users += 1
        if self._users == 1:
            self._tick()

    def end(self) -> None:
        """Stop measuring if no other deadline needs it."""
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
