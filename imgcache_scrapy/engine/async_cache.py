"""AsyncImageCache: the cache as an event loop calls it, with few threads and batched calls."""

import asyncio
import functools
from collections import defaultdict
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any, Concatenate, ParamSpec, TypeVar

from imgcache_scrapy.core.concurrency import Batcher, Limiter
from imgcache_scrapy.core.entry import Entry
from imgcache_scrapy.core.errors import UnavailableError
from imgcache_scrapy.engine.cache import ImageCache, Store
from imgcache_scrapy.engine.catalog.catalog import Catalog

P = ParamSpec("P")
T = TypeVar("T")
_Lookup = tuple[str | None, str]

# Few threads behind the loop: with many of them the loop waits for the interpreter lock.
_READERS = 2
# An object store that hangs must not keep lookups waiting.
_BLOB_READERS = 4
# One decodes while the other writes.
_WRITERS = 2
# All waiters of a batch resume together when it ends; a large batch would block the loop.
_MAX_LOOKUPS = 32
_MAX_STORES = 16
_HEALTH_SECONDS = 3


def _reading(
    query: Callable[Concatenate[Catalog, P], T],
) -> "Callable[Concatenate[AsyncImageCache, P], Coroutine[Any, Any, T]]":
    """Derive an awaited method from a query of the catalog, which runs in a thread."""

    @functools.wraps(query)
    async def method(self: "AsyncImageCache", /, *args: P.args, **kwargs: P.kwargs) -> T:
        def call(cache: ImageCache) -> T:
            return query(cache.catalog, *args, **kwargs)

        return await self._limited(functools.partial(self._run, self._readers, call))

    return method


class AsyncImageCache:
    """An `ImageCache` whose methods are awaited; to be used within one event loop.

    The service answers requests with it, and it is the transport of a client whose cache is
    embedded. Lookups that arrive while a lookup is running go together into the next one; stores
    do the same.

    Args:
        open_cache: returns the cache; called in a thread, by the first method that needs it, and
            again after it raised.
        close_cache: called with the cache in `aclose`, in a thread.
        limiter: limits the calls; None for no limits.
    """

    def __init__(
        self,
        open_cache: Callable[[], ImageCache],
        close_cache: Callable[[ImageCache], None],
        limiter: Limiter | None = None,
    ) -> None:
        self._open_cache = open_cache
        self._close_cache = close_cache
        self._limiter = limiter
        self._limited = _unlimited if limiter is None else limiter.run
        self._cache: ImageCache | None = None
        self._opening: asyncio.Future[ImageCache] | None = None
        self._readers = ThreadPoolExecutor(_READERS, "imgcache-read")
        self._blob_readers = ThreadPoolExecutor(_BLOB_READERS, "imgcache-read-blob")
        self._writers = ThreadPoolExecutor(_WRITERS, "imgcache-write")
        self._lookups: Batcher[_Lookup, Entry] = Batcher(self._lookup, max_batch=_MAX_LOOKUPS)
        self._stores: Batcher[Store, Entry] = Batcher(
            self._store, max_batch=_MAX_STORES, max_calls=_WRITERS
        )

    content_type = _reading(Catalog.content_type)
    get_meta = _reading(Catalog.get_meta)
    lookup_many = _reading(Catalog.lookup_many)
    search = _reading(Catalog.search)
    similar = _reading(Catalog.similar)
    stats = _reading(Catalog.stats)
    buckets = _reading(Catalog.buckets)

    async def lookup(self, key: str, bucket: str | None = None) -> Entry | None:
        """Return the newest capture of a URL, None if there is none."""
        entry = await self._limited(lambda: self._lookups.ask((bucket, key)))
        return None if entry is None else entry.copy()

    async def store(
        self,
        key: str,
        data: bytes,
        client_name: str,
        *,
        bucket: str = "",
        lookup_time: datetime | None = None,
        filename: str | None = None,
    ) -> Entry:
        """Store one image; the arguments are those of `Store.of`."""
        store = Store.of(
            key, data, client_name, bucket=bucket, lookup_time=lookup_time, filename=filename
        )
        entry = await self._limited(lambda: self._stores.ask(store))
        assert entry is not None  # noqa: S101 - every store has one
        return entry

    async def get_bytes(self, content_hash: str, bucket: str = "") -> bytes:
        """Return an image's bytes; as `ImageCache.get_image`."""
        return (await self.get_image(content_hash, bucket))[0]

    async def get_image(self, content_hash: str, bucket: str = "") -> tuple[bytes, str]:
        """Return an image's bytes and content type; as `ImageCache.get_image`."""
        return await self._limited(
            lambda: self._run(
                self._blob_readers, lambda cache: cache.get_image(content_hash, bucket)
            )
        )

    async def delete(self, content_hash: str, bucket: str = "") -> None:
        """Delete an image; as `ImageCache.delete`."""
        await self._limited(
            lambda: self._run(self._writers, lambda cache: cache.delete(content_hash, bucket))
        )

    async def health(self) -> dict[str, Any]:
        """Return `{"status": "ok"}`.

        Raises:
            UnavailableError: the catalog or the storage fails, or gives no answer in time.
        """
        try:
            async with asyncio.timeout(_HEALTH_SECONDS):
                await self._limited(lambda: self._run(self._blob_readers, ImageCache.check))
        except TimeoutError as error:
            raise UnavailableError(
                f"the catalog or the image storage gave no answer within {_HEALTH_SECONDS} s"
            ) from error
        return {"status": "ok"}

    async def aclose(self) -> None:
        """Wait for the running calls, then end the threads and close the cache."""
        if self._limiter is not None:
            await self._limiter.finish()
        await asyncio.to_thread(self._end_threads)
        if self._opening is not None:
            await asyncio.to_thread(self._close_cache, await self._opening)

    def _end_threads(self) -> None:
        for threads in (self._readers, self._blob_readers, self._writers):
            threads.shutdown()

    async def _lookup(self, questions: list[_Lookup]) -> dict[_Lookup, Entry]:
        keys = defaultdict(list)
        for bucket, key in questions:
            keys[bucket].append(key)
        found: dict[_Lookup, Entry] = {}
        for bucket, some in keys.items():
            look_up = functools.partial(_look_up, keys=some, bucket=bucket)
            entries = await self._run(self._readers, look_up)
            found |= {(bucket, key): entry for key, entry in entries.items()}
        return found

    async def _store(self, stores: list[Store]) -> dict[Store, Entry]:
        entries = await self._run(self._writers, lambda cache: cache.store_many(stores))
        return dict(zip(stores, entries, strict=True))

    async def _run(self, threads: ThreadPoolExecutor, call: Callable[[ImageCache], T]) -> T:
        if self._cache is None:
            self._cache = await self._opened()
        return await asyncio.get_running_loop().run_in_executor(threads, call, self._cache)

    async def _opened(self) -> ImageCache:
        if self._opening is None:
            self._opening = asyncio.ensure_future(asyncio.to_thread(self._open_cache))
        try:
            return await asyncio.shield(self._opening)
        except Exception:
            self._opening = None
            raise


def _look_up(cache: ImageCache, keys: list[str], bucket: str | None) -> dict[str, Entry]:
    return cache.catalog.lookup_many(keys, bucket)


async def _unlimited(call: Callable[[], Awaitable[T]]) -> T:
    return await call()
