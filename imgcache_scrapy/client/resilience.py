"""ResilientClient: a crawl's calls to the cache, with a circuit breaker and a spool."""

import asyncio
import logging
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from imgcache_scrapy.client.breaker import Breaker
from imgcache_scrapy.client.record import Record
from imgcache_scrapy.client.spool import Spool, replay
from imgcache_scrapy.client.transport import Transport
from imgcache_scrapy.core.entry import Entry
from imgcache_scrapy.core.errors import REFUSALS, UnavailableError

# No host can have this name (RFC 2606), so the cache never has an image of it.
_PROBED_URL = "http://imgcache.invalid/"
# Each replay has one record in memory; a few in parallel are faster than one after the other.
_MAX_REPLAYS = 4


class Stored(NamedTuple):
    """The result of a store.

    Attributes:
        entry: the entry of the image; it has no `created` if the image is in the spool.
        is_spooled: whether the image is in the spool, not in the cache.
    """

    entry: Entry
    is_spooled: bool


class ResilientClient:
    """Makes the calls for a crawl's images; direct calls of a spider bypass it.

    Args:
        cache: the transport of a client; its owner closes it.
        spool: the folder of the spool; None for no spool.
        bucket: the bucket for lookups and stores.
        count: adds 1 to the stat of this name.
        log: writes a log line; called with level, message and the arguments of the message.
    """

    def __init__(
        self,
        cache: Transport,
        spool: Path | None,
        *,
        bucket: str = "",
        count: Callable[[str], None],
        log: Callable[..., None],
    ) -> None:
        self._cache = cache
        self._bucket = bucket
        self._count = count
        self._log = log
        self._breaker = Breaker(self._probe, on_failure=self._failed, on_close=self._closed)
        self._spool = None if spool is None else Spool(spool)
        self._has_warned_of_spool = False
        self._replaying = asyncio.Lock()
        self._replays: set[asyncio.Task[None]] = set()

    async def lookup_many(self, keys: list[str]) -> dict[str, Entry]:
        """Find the newest captures of URLs.

        Raises:
            ImgCacheError: the cache failed, or the breaker is open.
        """
        async with self._breaker.call("lookup"):
            return await self._cache.lookup_many(keys, self._bucket)

    async def get_bytes(self, entry: Entry) -> bytes:
        """Read the bytes of an entry.

        Raises:
            ImgCacheError: the bytes are missing, the cache failed, or the breaker is open.
        """
        async with self._breaker.call("read"):
            bucket = entry.get("bucket", self._bucket)
            return await self._cache.get_bytes(entry["content_hash"], bucket)

    async def store(self, key: str, data: bytes, client_name: str) -> Stored:
        """Store an image; put it into the spool if the cache fails.

        Raises:
            ImgCacheError: the cache refused the image; or it failed, and the spool is full or
                switched off.
            OSError: the cache failed, and the spool cannot be written.
        """
        record = Record(key, self._bucket, client_name, datetime.now(UTC), data)
        try:
            return Stored(await self._store(record), is_spooled=False)
        except REFUSALS:
            raise
        except Exception:
            if self._spool is None:
                raise
            return Stored(await self._spooled(self._spool, record), is_spooled=True)

    def replay_soon(self) -> None:
        """Start to store the images in the spool, in the background."""
        task = asyncio.create_task(self.replay())
        self._replays.add(task)
        task.add_done_callback(self._replays.discard)

    async def replay(self) -> None:
        """Store the images in the spool; stop if the breaker opens."""
        if self._spool is None:
            return
        async with self._replaying:
            stored = 0
            try:
                stored = await self._replay_all(self._spool)
            except* OSError as errors:
                self._log(logging.WARNING, "The spool cannot be read: %s", errors.exceptions[0])
        if stored:
            self._log(logging.INFO, "%d images from the spool are in the image cache now", stored)

    async def aclose(self) -> None:
        """Store the images in the spool if the cache works, then end all background tasks."""
        await self.replay()
        await self._breaker.aclose()
        await asyncio.gather(*self._replays)

    async def _store(self, record: Record) -> Entry:
        async with self._breaker.call("store"):
            return await self._cache.store(
                record.url,
                record.data,
                record.client_name,
                bucket=record.bucket,
                lookup_time=record.lookup_time,
                filename=None,
            )

    async def _spooled(self, spool: Spool, record: Record) -> Entry:
        try:
            await asyncio.to_thread(spool.put, record)
        except (OSError, UnavailableError) as error:
            level = logging.DEBUG if self._has_warned_of_spool else logging.WARNING
            self._has_warned_of_spool = True
            self._log(level, "An image is neither in the cache nor in the spool: %s", error)
            raise
        return await asyncio.to_thread(record.entry)

    async def _replay_all(self, spool: Spool) -> int:
        names = iter(await asyncio.to_thread(spool.names))
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(self._replay_next(spool, names)) for _ in range(_MAX_REPLAYS)
            ]
        return sum(task.result() for task in tasks)

    async def _replay_next(self, spool: Spool, names: Iterator[str]) -> int:
        stored = 0
        for name in names:
            if self._breaker.is_open:
                break
            try:
                result = await replay(spool, name, self._store)
            except OSError:
                raise
            except Exception:  # noqa: S112 - the breaker has logged it
                continue
            if result.is_stored:
                stored += 1
                self._count("replayed")
            if result.refusal is not None:
                self._log(
                    logging.WARNING,
                    "An image from the spool was set aside in %s: %s",
                    spool.folder,
                    result.refusal,
                )
        return stored

    async def _probe(self) -> None:
        await self._cache.health()
        # Health needs no token, so also make a call that needs one.
        await self._cache.lookup(_PROBED_URL, self._bucket)

    def _failed(self, error: Exception, should_warn: bool) -> None:
        self._count(f"error/{getattr(error, 'code', 'unexpected')}")
        self._log(
            logging.WARNING if should_warn else logging.DEBUG,
            "Trouble with the image cache: %s",
            error,
        )

    def _closed(self) -> None:
        self._log(logging.INFO, "The image cache works again")
        self.replay_soon()
