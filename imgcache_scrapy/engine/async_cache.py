"""The cache for an event loop: few threads wait for it, and calls that wait go on together."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import partial
from typing import Any, TypeVar

from imgcache_scrapy.engine.cache import ImageCache, Prepared
from imgcache_scrapy.entry import Entry
from imgcache_scrapy.joining import Joined

T = TypeVar("T")

# Few threads behind the loop: many make it stall, and SQLite has one writer anyway.
_READERS = 2
_WRITERS = 3
# Whoever waits for a joined call goes on at once when it ends: many make the loop stall.
_JOINED = 32


class AsyncImageCache:
    """An `ImageCache` whose calls are awaited; to be used within one event loop.

    Its methods are those of `ImageCache`. What is looked up or stored while a lookup or a commit
    is under way goes together into the next one.

    Args:
        cache: the cache; closed by its owner.
    """

    def __init__(self, cache: ImageCache) -> None:
        self._cache = cache
        self._readers = ThreadPoolExecutor(_READERS, "imgcache-read")
        self._writers = ThreadPoolExecutor(_WRITERS, "imgcache-write")
        self._committer = ThreadPoolExecutor(1, "imgcache-commit")
        self._lookups: Joined[tuple[str | None, str], Entry] = Joined(self._lookup, limit=_JOINED)
        self._commits: Joined[Prepared, Entry] = Joined(self._commit, limit=_JOINED)

    async def store(
        self,
        url: str,
        data: bytes,
        client_name: str,
        *,
        bucket: str = "",
        lookup_time: datetime | None = None,
        filename: str | None = None,
    ) -> Entry:
        """As `ImageCache.store`."""
        prepare = partial(
            self._cache.prepare, bucket=bucket, lookup_time=lookup_time, filename=filename
        )
        prepared = await self._run(self._writers, prepare, url, data, client_name)
        entry = await self._commits.ask(prepared)
        assert entry is not None  # noqa: S101 - every store in a commit has one
        return entry

    async def get_bytes(self, content_hash: str, bucket: str = "") -> tuple[bytes, str]:
        """As `ImageCache.get_bytes`."""
        return await self._run(self._readers, self._cache.get_bytes, content_hash, bucket)

    async def get_meta(self, content_hash: str, bucket: str = "") -> Entry | None:
        """As `ImageCache.get_meta`."""
        return await self._run(self._readers, self._cache.get_meta, content_hash, bucket)

    async def lookup(self, url: str, bucket: str | None = None) -> Entry | None:
        """Find the newest capture of a URL, None where there is none."""
        entry = await self._lookups.ask((bucket, url))
        return None if entry is None else entry.copy()

    async def lookup_many(self, urls: Iterable[str], bucket: str | None = None) -> dict[str, Entry]:
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
        """Tell that the cache answers."""
        return {"status": "ok"}

    async def totals(self) -> dict[str, int]:
        """As `ImageCache.totals`."""
        return await self._run(self._readers, self._cache.totals)

    def close(self) -> None:
        """Let the calls under way finish, then end the threads; it blocks."""
        for threads in (self._readers, self._writers, self._committer):
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

    async def _commit(self, stores: list[Prepared]) -> dict[Prepared, Entry]:
        return await self._run(self._committer, self._cache.commit, stores)

    async def _run(self, threads: ThreadPoolExecutor, call: Callable[..., T], *args: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(threads, call, *args)
