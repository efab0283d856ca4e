"""UseRecorder: sends the uses of a crawl's images to its cache, in batches."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress

from imgcache_scrapy.client.breaker import Breaker
from imgcache_scrapy.client.transport import Transport
from imgcache_scrapy.core.errors import REFUSALS, ProtocolError, ReadOnlyError
from imgcache_scrapy.core.uses import NewUse

# A batch is sent when it has this number of uses, or after this time.
_MAX_BATCH = 250
_SECONDS = 2.0
_SECONDS_AFTER_TROUBLE = 5.0
# More uses are lost: the cache is too slow, or down for too long.
_MAX_WAITING = 5_000
# With these errors, a batch would be refused again.
_FOR_GOOD = (*REFUSALS, ProtocolError, ReadOnlyError)


class UseRecorder:
    """Collects uses and sends them in the background, so that no item waits for it.

    What the cache does not take is sent again later. At the end of the crawl, that is done once
    more for uses whose image the cache did not have: it may have waited in the spool.

    Args:
        cache: the transport of a client.
        breaker: the circuit breaker of the calls.
        bucket: the bucket in which local files are looked up.
        on_recorded: called with the number of uses that were recorded.
        on_lost: called with the number of uses that are lost, and the reason.
    """

    def __init__(
        self,
        cache: Transport,
        breaker: Breaker,
        bucket: str,
        *,
        on_recorded: Callable[[int], None],
        on_lost: Callable[[int, object], None],
    ) -> None:
        self._cache = cache
        self._breaker = breaker
        self._bucket = bucket
        self._on_recorded = on_recorded
        self._on_lost = on_lost
        self._waiting: deque[NewUse] = deque()
        self._without_image: list[list[NewUse]] = []
        self._is_due = asyncio.Event()
        self._is_closing = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def add(self, uses: Iterable[NewUse]) -> None:
        """Record uses soon."""
        self._waiting.extend(uses)
        too_many = len(self._waiting) - _MAX_WAITING
        if too_many > 0:
            for _ in range(too_many):
                self._waiting.pop()
            self._on_lost(too_many, "the cache does not take them in time")
        if len(self._waiting) >= _MAX_BATCH:
            self._is_due.set()
        if self._waiting and (self._task is None or self._task.done()):
            self._task = asyncio.create_task(self._run())

    async def aclose(self) -> None:
        """Send what is waiting; what the cache does not take now is lost."""
        self._is_closing.set()
        self._is_due.set()
        if self._task is not None:
            await self._task
        again, self._without_image = self._without_image, []
        for batch in again:
            await self._send_batch(batch, is_last=True)

    async def _run(self) -> None:
        wait, seconds = self._is_due.wait, _SECONDS
        while self._waiting:
            with suppress(TimeoutError):
                await asyncio.wait_for(wait(), seconds)
            batch = [self._waiting.popleft() for _ in range(min(_MAX_BATCH, len(self._waiting)))]
            if await self._send_batch(batch, is_last=False):
                wait, seconds = self._is_due.wait, _SECONDS
            else:
                wait, seconds = self._is_closing.wait, _SECONDS_AFTER_TROUBLE
            if len(self._waiting) < _MAX_BATCH and not self._is_closing.is_set():
                self._is_due.clear()

    async def _send_batch(self, batch: list[NewUse], *, is_last: bool) -> bool:
        """Send a batch; return whether the cache has answered."""
        try:
            recorded = await self._send(batch)
        except Exception as error:
            if self._is_closing.is_set():
                self._on_lost(len(batch), error)
            else:
                self._waiting.extendleft(reversed(batch))
            return False
        if isinstance(recorded, Exception):
            self._on_lost(len(batch), recorded)
            return True
        if recorded < len(batch) and not is_last and self._has_room(len(batch)):
            self._without_image.append(batch)
            return True
        self._on_recorded(recorded)
        if recorded < len(batch):
            self._on_lost(len(batch) - recorded, "their images are not in the cache")
        return True

    async def _send(self, batch: list[NewUse]) -> int | Exception:
        """Send a batch; return the number of uses whose image the cache has, or why it refuses."""
        async with self._breaker.call("uses"):
            try:
                known = await self._with_hashes(batch)
                return await self._cache.record_uses(known) if known else 0
            except _FOR_GOOD as error:
                # It concerns no image, so that it is no trouble.
                return error

    async def _with_hashes(self, batch: list[NewUse]) -> list[NewUse]:
        """Look up the images of local files; those that the cache does not have are left out."""
        keys = {each for use in batch if not use.content_hash for each in (use.key, use.url)}
        if not keys:
            return batch
        entries = (await self._cache.lookup_many(list(keys), self._bucket)).entries
        found = []
        for use in batch:
            entry = entries.get(use.key) or entries.get(use.url)
            if use.content_hash:
                found.append(use)
            elif entry is not None:
                found.append(use._replace(content_hash=entry["content_hash"], key=entry["key"]))
        return found

    def _has_room(self, count: int) -> bool:
        return sum(map(len, self._without_image)) + count <= _MAX_WAITING
