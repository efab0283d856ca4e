"""ResilientClient: a crawl's calls to the cache, with a circuit breaker and a spool."""

import asyncio
import logging
from collections.abc import Callable, Collection
from datetime import UTC, datetime
from pathlib import Path

from imgcache_scrapy.client.access import check_access
from imgcache_scrapy.client.answers import newest_first
from imgcache_scrapy.client.blocked_hashes import BlockedHashes
from imgcache_scrapy.client.breaker import Breaker
from imgcache_scrapy.client.record import Record
from imgcache_scrapy.client.recorder import Recorder
from imgcache_scrapy.client.renewal import claim_again
from imgcache_scrapy.client.replay import Replayer
from imgcache_scrapy.client.results import Stored, UrlsFound
from imgcache_scrapy.client.spool import Spool
from imgcache_scrapy.client.spooled import SpooledImages
from imgcache_scrapy.client.transport import Transport
from imgcache_scrapy.core.blocked import BlockedImage, BlockedSource
from imgcache_scrapy.core.entry import Entry
from imgcache_scrapy.core.errors import (
    REFUSALS,
    BlockedError,
    ProtocolError,
    ReadOnlyError,
)
from imgcache_scrapy.core.failures import Found, SeenFailure
from imgcache_scrapy.core.image_url import ImageUrl, keys_of
from imgcache_scrapy.core.keys import cache_key
from imgcache_scrapy.core.response_info import NO_RESPONSE, ResponseInfo

# No host can have this name (RFC 2606), so the cache never has an image of it.
_PROBED_URL = "http://imgcache.invalid/"


class ResilientClient:
    """Makes the calls for a crawl's images; direct calls of a spider bypass it.

    Args:
        cache: the transport of a client; its owner closes it.
        spool: the folder of the spool; None for no spool.
        cache_name: the name of the cache in the records of the spool; see `cache_name`.
        bucket: the bucket for lookups and stores.
        count: adds 1 to the stat of this name.
        log: writes a log line; called with level, message and the arguments of the message.

    Attributes:
        breaker: the circuit breaker of all calls.
        failures: sends failures of sites to the cache.
        blocked_hashes: which images the cache blocks.
    """

    def __init__(
        self,
        cache: Transport,
        spool: Path | None,
        *,
        cache_name: str,
        bucket: str = "",
        count: Callable[[str], None],
        log: Callable[..., None],
    ) -> None:
        self._cache = cache
        self._cache_name = cache_name
        self._bucket = bucket
        self._count = count
        self._log = log
        self.breaker = Breaker(self._probe, on_failure=self._failed, on_close=self._closed)
        self._spool = None if spool is None else Spool(spool)
        self.blocked_hashes = BlockedHashes(self._read_blocked)
        self._spooled_images = SpooledImages(self._spool, cache_name, log, self.blocked_hashes)
        self._replayer = None if self._spool is None else self._replayer_of(self._spool)
        self._replays: set[asyncio.Task[None]] = set()
        self.failures = Recorder(self._remember_failures, lambda failure: failure.url.url)

    async def check_access(self) -> None:
        """Check that the cache accepts the token and its own host name.

        Raises:
            ConfigurationError: the cache refuses one of them; the message says what to do.
        """
        await check_access(
            lambda: self._cache.lookup(_PROBED_URL, self._bucket), self._cache_name, self._count
        )

    async def lookup_many(
        self,
        urls: Collection[ImageUrl],
        accept: str | None = None,
        *,
        tells_failures: bool = False,
    ) -> UrlsFound:
        """Find the newest captures of URLs in the cache, and those that wait in the spool for it.

        Args:
            urls: the URLs.
            accept: the header `Accept` of the requests that hits will answer; None if unknown.
            tells_failures: whether to find the remembered failures of the other URLs, too.

        Raises:
            ImgCacheError: the cache failed, or the breaker is open, and the spool has none of
                the URLs.
        """
        found = await self._look_up_all(keys_of(urls), accept, [url.url for url in urls])
        entries = {url: entry for url in urls if (entry := url.newest(found.entries))}
        failed = [url for url in urls if url.url in found.failures and url not in entries]
        failures = {url: found.failures[url.url] for url in failed if tells_failures}
        blocked = (url for url in urls if not found.blocked.isdisjoint((url.url, *url.keys)))
        return UrlsFound(entries, failures, frozenset(blocked))

    async def _look_up_all(
        self, keys: list[str], accept: str | None, urls: Collection[str]
    ) -> Found:
        # Before the lookup: an image that is stored meanwhile must not be missed in both places.
        waiting = await self._spooled_images.waiting(keys, self._bucket)
        try:
            found = await self._look_up(keys, accept, urls)
        except Exception:
            if spooled := await self._spooled_images.entries(waiting):
                return Found(spooled)
            raise
        if waiting:
            spooled = await self._spooled_images.entries(waiting)
            if gone := [key for key in waiting if key not in spooled]:
                found.entries.update((await self._look_up(gone, accept)).entries)
            for key, entry in spooled.items():
                found.entries[key] = newest_first([found.entries.get(key, entry), entry])[0]
        return found

    async def get_bytes(self, entry: Entry) -> bytes:
        """Read the bytes of an entry, from the spool if its image waits there.

        Raises:
            ImgCacheError: the bytes are missing, the cache failed, or the breaker is open.
        """
        bucket = entry.get("bucket", self._bucket)
        data = await self._spooled_images.bytes_of(entry, bucket)
        if data is not None:
            return data
        async with self.breaker.call("read"):
            size = entry["file_size_bytes"]
            return await self._cache.get_bytes(entry["content_hash"], bucket, size)

    async def store(
        self, url: ImageUrl, data: bytes, client_name: str, response: ResponseInfo = NO_RESPONSE
    ) -> Stored:
        """Store an image; put it into the spool if the cache fails.

        Args:
            url: the URL that was asked for.
            data: the bytes of the image.
            client_name: the name of the client that stores it.
            response: what the site said.

        Raises:
            ImgCacheError: the cache refused the image, or can only be read; or it failed, and the
                spool is full or switched off.
            OSError: the cache failed, and the spool cannot be written.
        """
        fetched = datetime.now(UTC)
        where = self._bucket, client_name, fetched, data, self._cache_name
        record = Record(url.url, *where, url.key, response)
        try:
            return Stored(await self._store(record), is_spooled=False)
        except (*REFUSALS, ReadOnlyError):
            raise
        except Exception:
            if self._spool is None:
                raise
            return Stored(await self._spooled_images.put(record), is_spooled=True)

    async def renew(
        self, url: ImageUrl, entry: Entry, client_name: str, response: ResponseInfo = NO_RESPONSE
    ) -> Entry | None:
        """Record that a URL still gives the image of an entry, as a site says by a 304.

        If the cache fails, can only be read, or is a service without claims, nothing is recorded:
        the capture keeps its age, and there are no bytes that the spool could keep. An image that
        still waits in the spool is stored.

        Args:
            url: the URL that was asked for.
            entry: the entry of the image.
            client_name: the name of the client that asked.
            response: what the site said.

        Returns:
            The renewed entry, or the given one if nothing was recorded. None if the cache does not
            have the bytes of the image any more, or if the image is blocked.
        """
        try:
            async with self.breaker.call("store"):
                renewed = await claim_again(
                    self._cache,
                    url,
                    entry,
                    client_name=client_name,
                    bucket=self._bucket,
                    response=response,
                )
            if renewed is None and self._cache.supports_claims:
                data = await self._spooled_images.bytes_of(entry, self._bucket)
                if data is None:
                    return None
                return (await self.store(url, data, client_name, response)).entry
        except BlockedError:
            return None
        except Exception:  # The breaker has counted and logged it.
            return entry
        return renewed or entry

    def replay_soon(self) -> None:
        """Start to store the images in the spool, in the background."""
        task = asyncio.create_task(self.replay())
        self._replays.add(task)
        task.add_done_callback(self._replays.discard)

    async def replay(self, *, again: bool = False) -> None:
        """Store the images that wait in the spool for this cache; stop if the breaker opens.

        Args:
            again: whether to try images that failed before, too.
        """
        if self._replayer is not None:
            await self._replayer.replay(again=again)

    async def aclose(self, *, tries_all: bool = False) -> None:
        """Store the images in the spool if the cache works, then end all background tasks.

        Args:
            tries_all: whether to go on after failures in a row, as long as the cache answers
                probes. That can take long, because the cache may fail at each image.
        """
        await self.failures.aclose()
        await self.replay(again=True)
        while tries_all and self.breaker.is_open and await self.breaker.try_to_close():
            await self.replay()
        await self.breaker.aclose()
        await asyncio.gather(*self._replays)

    def _replayer_of(self, spool: Spool) -> Replayer:
        return Replayer(
            spool,
            self._cache_name,
            store=self._store,
            is_blocked=lambda: self.breaker.is_open,
            count=self._count,
            log=self._log,
        )

    async def _store(self, record: Record) -> Entry:
        async with self.breaker.call("store"):
            return await self._cache.store(
                record.url,
                record.data,
                record.client_name,
                key=record.key or cache_key(record.url),
                bucket=record.bucket,
                lookup_time=record.lookup_time,
                filename=None,
                response=record.response,
            )

    async def _look_up(
        self, keys: list[str], accept: str | None, urls: Collection[str] = ()
    ) -> Found:
        async with self.breaker.call("lookup"):
            return await self._cache.lookup_many(keys, self._bucket, accept, urls)

    async def _remember_failures(self, failures: list[SeenFailure]) -> None:
        async with self.breaker.call("failures"):
            await self._cache.remember_failures(failures, self._bucket)

    async def _read_blocked(self) -> list[BlockedImage | BlockedSource]:
        async with self.breaker.call("blocked"):
            try:
                images = await self._cache.blocked(None)
                return [*images, *await self._cache.blocked_sources(None)]
            except ProtocolError:  # Another implementation blocks no images.
                return []

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
