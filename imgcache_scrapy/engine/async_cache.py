"""The cache for an event loop: few threads wait for it, and calls that wait go on together."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from imgcache_scrapy.core.entry import Entry
from imgcache_scrapy.core.errors import UnavailableError
from imgcache_scrapy.core.joining import Joined
from imgcache_scrapy.engine.cache import ImageCache, Store

T = TypeVar("T")

# Few threads behind the loop: many make it stall.
_READERS = 2
# An object store that hangs must not keep lookups waiting.
_BLOB_READERS = 4
# One decodes while the other writes.
_WRITERS = 2
# Whoever waits for a joined call goes on at once when it ends: many make the loop stall.
_JOINED = 32
_STORED = 16
_HEALTH_SECONDS = 3


class AsyncImageCache:
    """An `ImageCache` whose calls are awaited; to be used within one event loop.

    Its methods are those of `ImageCache`. What is looked up while a lookup is under way goes into
    the next one together, and so does what is to be stored.

    Args:
        cache: the cache; closed by its owner.
    """

    def __init__(self, cache: ImageCache) -> None:
        self._cache = cache
        self._readers = ThreadPoolExecutor(_READERS, "imgcache-read")
        self._blob_readers = ThreadPoolExecutor(_BLOB_READERS, "imgcache-read-blob")
        self._writers = ThreadPoolExecutor(_WRITERS, "imgcache-write")
        self._lookups: Joined[tuple[str | None, str], Entry] = Joined(self._lookup, limit=_JOINED)
        self._stores: Joined[Store, Entry] = Joined(self._store, limit=_STORED, calls=_WRITERS)

    async def store(self, url: str, data: bytes, client_name: str, **options: Any) -> Entry:
        """As `ImageCache.store`."""
        entry = await self._stores.ask(Store.of(url, data, client_name, **options))
        assert entry is not None  # noqa: S101 - every store has one
        return entry

    async def get_bytes(self, content_hash: str, bucket: str = "") -> tuple[bytes, str]:
        """As `ImageCache.get_bytes`."""
        return await self._run(self._blob_readers, self._cache.get_bytes, content_hash, bucket)

    async def content_type(self, content_hash: str, bucket: str = "") -> str | None:
        """As `ImageCache.content_type`."""
        return await self._run(self._readers, self._cache.content_type, content_hash, bucket)

    async def get_meta(self, content_hash: str, bucket: str = "") -> Entry | None:
        """As `ImageCache.get_meta`."""
        return await self._run(self._readers, self._cache.get_meta, content_hash, bucket)

    async def lookup(self, url: str, bucket: str | None = None) -> Entry | None:
        """Find the newest capture of a URL, None where there is none."""
        entry = await self._lookups.ask((bucket, url))
        return None if entry is None else entry.copy()

    async def lookup_many(
        self, urls: Collection[str], bucket: str | None = None
    ) -> dict[str, Entry]:
        """As `ImageCache.lookup`."""
        return await self._run(self._readers, self._cache.lookup, urls, bucket)

    async def search(
        self, url_contains: str, bucket: str | None = None, limit: int | None = None
    ) -> list[Entry]:
        """As `ImageCache.search`."""
        return await self._run(self._readers, self._cache.search, url_contains, bucket, limit)

    async def similar(
        self,
        perceptual_hash: int,
        max_distance: int,
        bucket: str | None = None,
        limit: int | None = None,
    ) -> list[Entry]:
        """As `ImageCache.similar`."""
        similar = self._cache.similar
        return await self._run(self._readers, similar, perceptual_hash, max_distance, bucket, limit)

    async def delete(self, content_hash: str, bucket: str = "") -> None:
        """As `ImageCache.delete`."""
        await self._run(self._writers, self._cache.delete, content_hash, bucket)

    async def health(self) -> dict[str, str]:
        """Tell that the cache works: `{"status": "ok"}`.

        Raises:
            UnavailableError: the catalog or the storage does not work, or not in time.
        """
        try:
            async with asyncio.timeout(_HEALTH_SECONDS):
                await self._run(self._blob_readers, self._cache.check)
        except TimeoutError as error:
            raise UnavailableError(
                f"the catalog or the image storage gave no answer within {_HEALTH_SECONDS} s"
            ) from error
        return {"status": "ok"}

    async def totals(self) -> dict[str, int]:
        """As `ImageCache.totals`."""
        return await self._run(self._readers, self._cache.totals)

    def close(self) -> None:
        """Let the calls under way finish, then end the threads; it blocks."""
        for threads in (self._readers, self._blob_readers, self._writers):
            threads.shutdown()

    async def _lookup(
        self, questions: list[tuple[str | None, str]]
    ) -> dict[tuple[str | None, str], Entry]:
        urls = defaultdict(list)
        for bucket, url in questions:
            urls[bucket].append(url)
        return {
            (bucket, url): entry
            for bucket, some in urls.items()
            for url, entry in (await self.lookup_many(some, bucket)).items()
        }

    async def _store(self, stores: list[Store]) -> dict[Store, Entry]:
        entries = await self._run(self._writers, self._cache.store_many, stores)
        return dict(zip(stores, entries, strict=True))

    async def _run(self, threads: ThreadPoolExecutor, call: Callable[..., T], *args: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(threads, call, *args)
