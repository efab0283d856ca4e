"""Replay: stores the images of a spool in the cache that they wait for."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from typing import NamedTuple

from imgcache_scrapy.client.breaker import is_blocked
from imgcache_scrapy.client.record import DamagedRecordError, Record
from imgcache_scrapy.client.spool import Spool
from imgcache_scrapy.core.errors import REFUSALS, ReadOnlyError
from imgcache_scrapy.core.text import reason_of

# Each replay has one record in memory; a few in parallel are faster than one after the other.
_MAX_REPLAYS = 4
_MAX_NAMED = 3


class ReplayResult(NamedTuple):
    """The result of a replay; the default means that the record is not there for this cache.

    Attributes:
        is_stored: whether the image was stored.
        refusal: why the record was moved to the folder `refused`; None if it was not.
    """

    is_stored: bool = False
    refusal: str | None = None


class Replayer:
    """Stores the records of a spool that wait for one cache.

    Args:
        spool: the spool.
        cache: the cache, as `cache_name` names it.
        store: stores a record in the cache.
        is_blocked: whether the cache must not be called.
        count: adds 1 to the stat of this name.
        log: writes a log line; called with level, message and the arguments of the message.
    """

    def __init__(
        self,
        spool: Spool,
        cache: str,
        *,
        store: Callable[[Record], Awaitable[object]],
        is_blocked: Callable[[], bool],
        count: Callable[[str], None],
        log: Callable[..., None],
    ) -> None:
        self._spool = spool
        self._cache = cache
        self._store = store
        self._is_blocked = is_blocked
        self._count = count
        self._log = log
        self._one_at_a_time = asyncio.Lock()
        self._failed: set[str] = set()
        self._unusable: dict[str, OSError] = {}

    async def replay(self, *, again: bool) -> None:
        """Store the records; stop when the cache is blocked.

        Args:
            again: whether to try records that failed before, too. Otherwise a few that the cache
                never takes would block it for the others again and again.
        """
        async with self._one_at_a_time:
            if again:
                self._failed.clear()
            known = len(self._unusable)
            try:
                stored = await self._replay_all()
            except OSError as error:
                self._log(logging.WARNING, "The spool cannot be read: %s", reason_of(error))
                return
            if new := list(self._unusable.items())[known:]:
                self._log(
                    logging.WARNING,
                    "The spool %s has records that cannot be read or removed (%d); the others are "
                    "stored: %s (%s)",
                    self._spool.folder,
                    len(new),
                    ", ".join(name for name, _ in new[:_MAX_NAMED]),
                    reason_of(new[0][1]),
                )
        if stored:
            self._log(logging.INFO, "%d images from the spool are in the image cache now", stored)

    async def _replay_all(self) -> int:
        names = await asyncio.to_thread(self._spool.oldest_first)
        # The first one alone: if others fail meanwhile, the breaker opens and ends its call, each
        # time that it is tried.
        first, rest = iter(names[:1]), iter(names[1:])
        counts = [await self._replay_next(first)]
        counts += await asyncio.gather(*(self._replay_next(rest) for _ in range(_MAX_REPLAYS)))
        return sum(counts)

    async def _replay_next(self, names: Iterator[str]) -> int:
        stored = 0
        for name in names:
            if self._is_blocked():
                break
            if name in self._failed:
                continue
            try:
                result = await replay(self._spool, name, self._cache, self._store)
            except OSError as error:
                # One that cannot be removed would be stored again each time.
                self._failed.add(name)
                self._unusable.setdefault(name, error)
                continue
            except Exception as error:  # the breaker has logged it
                # If others failed, or nothing can be written, it has to be tried again.
                if is_blocked(error) or isinstance(error, ReadOnlyError):
                    break
                self._failed.add(name)
                if self._is_blocked():
                    break
                await asyncio.to_thread(self._spool.postpone, name)
                continue
            if result.is_stored:
                stored += 1
                self._count("replayed")
            if result.refusal is not None:
                self._log(
                    logging.WARNING,
                    "An image from the spool was set aside in %s: %s",
                    self._spool.folder,
                    result.refusal,
                )
        return stored


async def replay(
    spool: Spool, name: str, cache: str, store: Callable[[Record], Awaitable[object]]
) -> ReplayResult:
    """Store one record and remove it; set it aside if it can never be stored.

    A record that waits for another cache stays where it is.

    Args:
        spool: the spool that has the record.
        name: name of the record's file.
        cache: the cache that takes the record.
        store: stores a record.

    Raises:
        ImgCacheError: the cache failed; the record stays in the spool.
        OSError: the record cannot be read, or cannot be removed after it was stored.
    """
    locked = await asyncio.to_thread(spool.lock, name, cache)
    if locked is None:
        return ReplayResult()
    try:
        await store(await asyncio.to_thread(locked.read))
        await asyncio.to_thread(locked.remove)
        return ReplayResult(is_stored=True)
    except (DamagedRecordError, *REFUSALS) as error:
        await asyncio.to_thread(locked.refuse, str(error))
        return ReplayResult(refusal=str(error))
    finally:
        locked.release()
