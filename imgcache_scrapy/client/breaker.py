"""A circuit breaker: after failures in a row it blocks all calls until a probe succeeds."""

import asyncio
import weakref
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

from imgcache_scrapy.core.errors import (
    REFUSALS,
    ImgCacheError,
    NotFoundError,
    ReadOnlyError,
    StoreFailedError,
    UnavailableError,
)

FAILURES = 3
"""Number of failures in a row that open the breaker."""
PROBE_SECONDS = 5.0
"""Seconds between the probes of an open breaker."""

_BLOCKED = "the cache failed and is not called until it works again"

# Errors that only a working cache can return.
_ANSWERS = (NotFoundError, *REFUSALS)
# The trouble of one image, and that of stores alone: the cache works for other calls.
_NO_FAILURES = (StoreFailedError, ReadOnlyError)


class Breaker:
    """Passes calls to the cache until it fails; then blocks calls and probes the cache.

    When the breaker opens, running calls fail at once: if the cache hangs, each of them would
    otherwise wait for its timeout.

    Args:
        probe: checks whether the cache works; raises an error if it does not.
        on_failure: called for each failed call, with the error and whether to log a warning.
        on_close: called after a probe has succeeded.
        sleep: waits for a number of seconds.

    Attributes:
        is_open: whether calls are blocked.
    """

    def __init__(
        self,
        probe: Callable[[], Awaitable[object]],
        *,
        on_failure: Callable[[Exception, bool], None],
        on_close: Callable[[], None],
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self.is_open = False
        self._probe = probe
        self._on_failure = on_failure
        self._on_close = on_close
        self._sleep = sleep
        self._running: set[asyncio.Timeout] = set()
        # Failures in a row, for each kind of call.
        self._streak: Counter[str] = Counter()
        self._has_warned = self._has_warned_of_streak = False
        self._warned_codes: set[str] = set()
        self._total_failures = 0
        # Weak, because the traceback of an error keeps the bytes of its image in memory.
        self._last_failure: weakref.ref[Exception] | None = None
        self._probing: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def call(self, kind: str) -> AsyncIterator[None]:
        """Return a context; make one call to the cache inside it.

        Args:
            kind: the kind of call. A success ends only the failures in a row of its own kind: for
                example, lookups can work while reads hang.

        Raises:
            UnavailableError: the breaker is open, or has opened during the call; see `is_blocked`.
        """
        if self.is_open:
            raise _blocked()
        timeout = asyncio.timeout(None)
        failures_before = self._total_failures
        try:
            async with timeout:
                self._running.add(timeout)
                try:
                    yield
                finally:
                    self._running.discard(timeout)
        except _ANSWERS as error:
            self._on_failure(error, False)
            raise
        except _NO_FAILURES as error:
            self._on_failure(error, error.code not in self._warned_codes)
            self._warned_codes.add(error.code)
            raise
        except Exception as error:
            if timeout.expired():
                raise _blocked() from error
            self._failed(kind, error, began_at=failures_before)
            raise
        # A call that started before the last failure does not prove that the trouble is over.
        self._succeeded(kind, is_over=failures_before == self._total_failures)

    async def try_to_close(self) -> bool:
        """Make a probe now, and stop the other probes; return whether it has succeeded."""
        await self.aclose()
        with suppress(Exception):
            await self._probe()
            self._close()
        return not self.is_open

    async def aclose(self) -> None:
        """Stop the probes."""
        if self._probing is not None:
            self._probing.cancel()
            await asyncio.wait([self._probing])

    def _succeeded(self, kind: str, *, is_over: bool) -> None:
        del self._streak[kind]
        if is_over and not self._streak:
            self._has_warned_of_streak = False

    def _failed(self, kind: str, error: Exception, *, began_at: int) -> None:
        # All calls of a batch get the same error: it is one failure.
        is_known = self._last_failure is not None and self._last_failure() is error
        if not is_known or began_at == self._total_failures:
            self._total_failures += 1
            # A timeout counts twice, because each further one costs the full time again.
            self._streak[kind] += 2 if isinstance(error.__cause__, TimeoutError) else 1
        self._last_failure = weakref.ref(error) if isinstance(error, ImgCacheError) else None
        opens = not self.is_open and self._streak.total() >= FAILURES
        should_warn = not self._has_warned or (opens and not self._has_warned_of_streak)
        self._has_warned = True
        self._has_warned_of_streak |= should_warn
        self._on_failure(error, should_warn)
        if opens:
            self._open()

    def _open(self) -> None:
        self.is_open = True
        now = asyncio.get_running_loop().time()
        for timeout in self._running:
            if not timeout.expired():
                timeout.reschedule(now)
        self._probing = asyncio.create_task(self._probe_until_closed())

    async def _probe_until_closed(self) -> None:
        while self.is_open:
            await self._sleep(PROBE_SECONDS)
            with suppress(Exception):
                await self._probe()
                self._close()
        self._on_close()

    def _close(self) -> None:
        self.is_open = self._has_warned = self._has_warned_of_streak = False
        self._streak.clear()


def is_blocked(error: Exception) -> bool:
    """Return whether a call was not made, or not finished, because other calls failed."""
    return error.args == (_BLOCKED,)


def _blocked() -> UnavailableError:
    return UnavailableError(_BLOCKED)
