"""A circuit breaker: after failures in a row the cache is left alone until a probe succeeds."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

from imgcache_scrapy.core.errors import REFUSALS, NotFoundError, UnavailableError

FAILURES = 3
"""So many failures in a row open the breaker."""
PROBE_SECONDS = 5.0
"""So long it waits before each probe."""

# What only a cache that works can say.
_ANSWERS = (NotFoundError, *REFUSALS)


class Breaker:
    """Lets calls go to the cache, until it fails; then none but a probe now and then.

    Calls that are under way when it opens end at once, as failed: with a cache that hangs, each
    would wait for its timeout.

    Args:
        probe: asks the cache whether it works; raises where it does not.
        on_failure: told the error of each call that failed, and whether it is worth a warning.
        on_close: called when a probe has succeeded.
        sleep: waits for some seconds.

    Attributes:
        is_open: whether the cache is left alone.
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
        self._under_way: set[asyncio.Timeout] = set()
        self._row: Counter[str] = Counter()
        self._was_told = self._row_was_told = False
        self._failures = 0
        self._watch: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def call(self, kind: str) -> AsyncIterator[None]:
        """Make a call to the cache within this.

        Args:
            kind: names the kind of call; a success of one kind says nothing of the others, as
                where a catalog works and the storage hangs.

        Raises:
            UnavailableError: the cache is left alone.
        """
        if self.is_open:
            raise _left_alone()
        limit = asyncio.timeout(None)
        failures_before = self._failures
        try:
            async with limit:
                self._under_way.add(limit)
                try:
                    yield
                finally:
                    self._under_way.discard(limit)
        except _ANSWERS as error:
            self._on_failure(error, False)
            raise
        except Exception as error:
            if limit.expired():
                raise _left_alone() from error
            self._failed(kind, error)
            raise
        # One that was under way at a failure does not end what that was the beginning of.
        self._succeeded(kind, is_over=failures_before == self._failures)

    async def aclose(self) -> None:
        """End the probes."""
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.wait([self._watch])

    def _succeeded(self, kind: str, *, is_over: bool) -> None:
        del self._row[kind]
        if is_over and not self._row:
            self._row_was_told = False

    def _failed(self, kind: str, error: Exception) -> None:
        # Another timeout would cost as much time again.
        self._failures += 1
        self._row[kind] += 2 if isinstance(error.__cause__, TimeoutError) else 1
        opens = not self.is_open and self._row.total() >= FAILURES
        is_news = not self._was_told or (opens and not self._row_was_told)
        self._was_told = True
        self._row_was_told |= is_news
        self._on_failure(error, is_news)
        if opens:
            self._open()

    def _open(self) -> None:
        self.is_open = True
        now = asyncio.get_running_loop().time()
        for limit in self._under_way:
            if not limit.expired():
                limit.reschedule(now)
        self._watch = asyncio.create_task(self._probe_until_closed())

    async def _probe_until_closed(self) -> None:
        while self.is_open:
            await self._sleep(PROBE_SECONDS)
            with suppress(Exception):
                await self._probe()
                self.is_open = self._was_told = self._row_was_told = False
        self._row.clear()
        self._on_close()


def _left_alone() -> UnavailableError:
    return UnavailableError("the cache is left alone until it answers again")
