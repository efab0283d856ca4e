"""A crawl's calls to the cache: trouble opens a breaker, and what cannot be stored is spooled."""

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

# Of a name that nobody can have (RFC 2606).
_PROBED_URL = "http://imgcache.invalid/"
# Records in memory; the cache takes some together faster than one by one.
_REPLAYED_AT_ONCE = 4


class Stored(NamedTuple):
    """What became of an image that was to be stored.

    Attributes:
        entry: of the image; without `created` if it is spooled.
        is_spooled: whether it waits in the spool.
    """

    entry: Entry
    is_spooled: bool


class ResilientClient:
    """The client as a crawl's images use it; what a spider calls directly has no breaker.

    Args:
        cache: the transport of a client; closed by its owner.
        spool: the folder of the spool; None where what cannot be stored is not to be kept.
        bucket: where images are looked for and stored.
        count: counts something in the stats.
        log: writes a line, given as level, message and the message's arguments.
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
        self._is_spool_told = False
        self._replaying = asyncio.Lock()
        self._replays: set[asyncio.Task[None]] = set()

    async def lookup_many(self, keys: list[str]) -> dict[str, Entry]:
        """Find the newest captures of URLs.

        Raises:
            ImgCacheError: there is trouble.
        """
        async with self._breaker.call("lookup"):
            return await self._cache.lookup_many(keys, self._bucket)

    async def get_bytes(self, entry: Entry) -> bytes:
        """Read an entry's bytes.

        Raises:
            ImgCacheError: there is trouble, or there are none.
        """
        async with self._breaker.call("read"):
            bucket = entry.get("bucket", self._bucket)
            return await self._cache.get_bytes(entry["content_hash"], bucket)

    async def store(self, key: str, data: bytes, client_name: str) -> Stored:
        """Store an image; put it into the spool if the cache does not take it now.

        Raises:
            ImgCacheError: neither took it.
            OSError: likewise.
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
        """Store what waits in the spool, in the background."""
        task = asyncio.create_task(self.replay())
        self._replays.add(task)
        task.add_done_callback(self._replays.discard)

    async def replay(self) -> None:
        """Store what waits in the spool, for as long as the cache takes it."""
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
        """Store what waits in the spool, if the cache takes it, and end."""
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
            level = logging.DEBUG if self._is_spool_told else logging.WARNING
            self._is_spool_told = True
            self._log(level, "An image that the cache did not take is not kept: %s", error)
            raise
        return await asyncio.to_thread(record.entry)

    async def _replay_all(self, spool: Spool) -> int:
        names = iter(await asyncio.to_thread(spool.names))
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(self._replay_some(spool, names)) for _ in range(_REPLAYED_AT_ONCE)
            ]
        return sum(task.result() for task in tasks)

    async def _replay_some(self, spool: Spool, names: Iterator[str]) -> int:
        stored = 0
        for name in names:
            if self._breaker.is_open:
                break
            try:
                outcome = await replay(spool, name, self._store)
            except OSError:
                raise
            except Exception:  # noqa: S112 - the breaker told of it
                continue
            if outcome.is_stored:
                stored += 1
                self._count("replayed")
            if outcome.refusal is not None:
                self._log(
                    logging.WARNING,
                    "An image from the spool was set aside in %s: %s",
                    spool.folder,
                    outcome.refusal,
                )
        return stored

    async def _probe(self) -> None:
        await self._cache.health()
        # Health may work without a token.
        await self._cache.lookup(_PROBED_URL, self._bucket)

    def _failed(self, error: Exception, is_news: bool) -> None:
        self._count(f"error/{getattr(error, 'code', 'unexpected')}")
        self._log(
            logging.WARNING if is_news else logging.DEBUG,
            "Trouble with the image cache: %s",
            error,
        )

    def _closed(self) -> None:
        self._log(logging.INFO, "The image cache works again")
        self.replay_soon()
