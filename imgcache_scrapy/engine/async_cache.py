"""AsyncImageCache: the cache for an event loop, with few threads and batched calls."""

import asyncio
import functools
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Concatenate, ParamSpec, TypeVar

from imgcache_scrapy.core.concurrency import Batcher, Limiter
from imgcache_scrapy.core.deadline import timeout
from imgcache_scrapy.core.entry import Entry
from imgcache_scrapy.core.errors import ImgCacheError, StoreFailedError, UnavailableError
from imgcache_scrapy.core.pages import all_pages_async
from imgcache_scrapy.engine.absent import AbsentCache
from imgcache_scrapy.engine.cache import ImageCache
from imgcache_scrapy.engine.catalog.catalog import Catalog
from imgcache_scrapy.engine.catalog.database import is_common
from imgcache_scrapy.engine.decoding.decoder import CHILDREN
from imgcache_scrapy.engine.late_decoding import LateDecoding, decode_next
from imgcache_scrapy.engine.lookup import lookup_many, mark_lost
from imgcache_scrapy.engine.store_request import StoreRequest

logger = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")
_LookupKey = tuple[str | None, str | None, str]

# With many threads, the event loop would often wait for the interpreter lock.
_READER_THREADS = 2
# A separate pool for queries that read many rows: lookups must not wait for them. With one thread,
# they leave the other processors to the lookups.
_SCANNER_THREADS = 1
# A separate pool: an object store that hangs must not delay lookups.
_BLOB_READER_THREADS = 4
# One store decodes pictures while another one writes.
_WRITER_THREADS = CHILDREN
# All waiters of a batch resume together when it ends; a large batch would block the loop.
_MAX_LOOKUPS = 32
_MAX_STORES = 16
_HEALTH_SECONDS = 3


def _awaited_query(
    query: Callable[Concatenate[Catalog, P], T], *, is_costly: bool = False
) -> "Callable[Concatenate[AsyncImageCache, P], Coroutine[Any, Any, T]]":
    """Derive a coroutine method from a query of the catalog; the query runs in a thread.

    Args:
        query: the query.
        is_costly: whether it may read many rows, so that lookups must not wait for it.
    """

    @functools.wraps(query)
    async def method(self: "AsyncImageCache", /, *args: P.args, **kwargs: P.kwargs) -> T:
        def call(cache: ImageCache) -> T:
            return query(cache.catalog, *args, **kwargs)

        threads = self._scanners if is_costly else self._readers
        return await self._limited(functools.partial(self._run, threads, call))

    return method


class AsyncImageCache:
    """An `ImageCache` with coroutine methods; use it within one event loop.

    The service answers requests with it, and it is the transport of a client with an embedded
    cache. Lookups that arrive while another lookup is running are sent together in the next
    query. Stores are batched in the same way.

    Args:
        open_cache: returns the cache; called in a thread by the first method that needs the
            cache, and called again if it raised.
        close_cache: closes the cache; called in a thread by `aclose`.
        limiter: limits the number of calls; None for no limit.
        absent: answers calls that read while there is no cache; None if such calls create it.
    """

    def __init__(
        self,
        open_cache: Callable[[], ImageCache],
        close_cache: Callable[[ImageCache], None],
        limiter: Limiter | None = None,
        absent: AbsentCache | None = None,
    ) -> None:
        self._open_cache = open_cache
        self._close_cache = close_cache
        self._absent = absent
        self._limiter = limiter
        self._limited = _unlimited if limiter is None else limiter.run
        self._cache: ImageCache | None = None
        self._opening: asyncio.Future[ImageCache] | None = None
        self._readers = ThreadPoolExecutor(_READER_THREADS, "imgcache-read")
        self._scanners = ThreadPoolExecutor(_SCANNER_THREADS, "imgcache-scan")
        self._blob_readers = ThreadPoolExecutor(_BLOB_READER_THREADS, "imgcache-read-blob")
        self._writers = ThreadPoolExecutor(_WRITER_THREADS, "imgcache-write")
        # A separate thread: it often waits for the decoder.
        self._decoding_thread = ThreadPoolExecutor(1, "imgcache-decode")
        self._late_decoding = LateDecoding(lambda: self._run(self._decoding_thread, decode_next))
        self._lookup_batcher: Batcher[_LookupKey, Entry] = Batcher(
            self._lookup_batch, max_batch=_MAX_LOOKUPS, is_common=is_common
        )
        self._store_batcher: Batcher[StoreRequest, Entry] = Batcher(
            self._store_batch,
            max_batch=_MAX_STORES,
            max_calls=_WRITER_THREADS,
            is_common=is_common,
        )

    type_and_size = _awaited_query(Catalog.type_and_size)
    # An image may have any number of captures.
    get_meta = _awaited_query(Catalog.get_meta, is_costly=True)
    search_page = _awaited_query(Catalog.search_page, is_costly=True)
    similar_page = _awaited_query(Catalog.similar_page, is_costly=True)
    stats = _awaited_query(Catalog.stats, is_costly=True)
    buckets = _awaited_query(Catalog.buckets, is_costly=True)

    async def search(
        self, url_contains: str, bucket: str | None = None, limit: int | None = None
    ) -> list[Entry]:
        """Return the captures whose URL contains a text; see `Catalog.search`."""
        return await all_pages_async(
            functools.partial(self.search_page, url_contains, bucket), limit
        )

    async def similar(
        self,
        perceptual_hash: str,
        max_hamming_distance: int,
        bucket: str | None = None,
        limit: int | None = None,
    ) -> list[Entry]:
        """Return the images whose hash is near a given one; see `Catalog.similar`."""
        hash_and_distance = (perceptual_hash, max_hamming_distance)
        return await all_pages_async(
            functools.partial(self.similar_page, *hash_and_distance, bucket), limit
        )

    async def lookup(
        self, key: str, bucket: str | None = None, accept: str | None = None
    ) -> Entry | None:
        """Return the entry of the newest capture of a key; None if there is none."""
        entry = await self._limited(lambda: self._lookup_batcher.ask((bucket, accept, key)))
        return None if entry is None else entry.copy()

    async def lookup_many(
        self, keys: Iterable[str], bucket: str | None = None, accept: str | None = None
    ) -> dict[str, Entry]:
        """Return the entries of the newest captures of keys; misses are missing."""
        return await self._limited(lambda: self._look_up(list(keys), bucket, accept))

    async def store(self, url: str, data: bytes, client_name: str, **options: Any) -> Entry:
        """Store one image; the arguments are those of `StoreRequest.of`."""
        store = StoreRequest.of(url, data, client_name, **options)
        entry = await self._limited(lambda: self._store_batcher.ask(store))
        assert entry is not None  # noqa: S101 - every store has an entry
        return entry

    async def get_bytes(
        self,
        content_hash: str,
        bucket: str | None = None,
        size: int | None = None,  # noqa: ARG002 - only a network needs it
    ) -> bytes:
        """Return the bytes of an image; see `ImageCache.get_image`."""
        return (await self.get_image(content_hash, bucket))[0]

    async def get_image(self, content_hash: str, bucket: str | None = None) -> tuple[bytes, str]:
        """Return the bytes and the content type of an image; see `ImageCache.get_image`."""
        return await self._limited(
            lambda: self._run(
                self._blob_readers, lambda cache: cache.get_image(content_hash, bucket)
            )
        )

    async def read_blobs(self, call: Callable[[ImageCache], T]) -> T:
        """Call a function with the cache in one of the threads that read blobs."""
        return await self._run(self._blob_readers, call)

    async def delete(self, content_hash: str, bucket: str = "") -> None:
        """Delete an image; see `ImageCache.delete`."""
        await self._limited(
            lambda: self._run(self._writers, lambda cache: cache.delete(content_hash, bucket))
        )

    async def health(self) -> dict[str, Any]:
        """Return `{"status": "ok"}`.

        Raises:
            UnavailableError: the catalog or the storage fails, or does not answer in time.
        """
        return await self._limited(self._health)

    async def _health(self) -> dict[str, Any]:
        try:
            async with timeout(_HEALTH_SECONDS):
                await self._run(self._blob_readers, lambda cache: cache.check())
        except TimeoutError as error:
            raise UnavailableError(
                f"the catalog or the image storage did not answer within {_HEALTH_SECONDS} s"
            ) from error
        return {"status": "ok"}

    def decode_late(self) -> None:
        """Start to decode images that are not decoded yet; a store starts this, too."""
        self._late_decoding.go_on()

    async def aclose(self) -> None:
        """Wait for the running calls, then stop the threads and close the cache."""
        if self._limiter is not None:
            await self._limiter.finish()
        await self._late_decoding.aclose()
        await asyncio.to_thread(self._stop_threads)
        if self._absent is not None:
            self._absent.close()
        if self._opening is not None:
            # Its error was raised by the call that opened the cache.
            with suppress(Exception):
                await self._opening
            if not self._opening.exception():
                await asyncio.to_thread(self._close_cache, self._opening.result())

    def _stop_threads(self) -> None:
        for threads in (
            self._readers,
            self._scanners,
            self._blob_readers,
            self._writers,
            self._decoding_thread,
        ):
            threads.shutdown()

    async def _lookup_batch(self, lookups: list[_LookupKey]) -> dict[_LookupKey, Entry]:
        groups = defaultdict(list)
        for bucket, accept, key in lookups:
            groups[bucket, accept].append(key)
        found: dict[_LookupKey, Entry] = {}
        for (bucket, accept), keys in groups.items():
            entries = await self._look_up(keys, bucket, accept)
            found |= {(bucket, accept, key): entry for key, entry in entries.items()}
        return found

    async def _look_up(
        self, keys: list[str], bucket: str | None, accept: str | None
    ) -> dict[str, Entry]:
        look_up = functools.partial(lookup_many, keys=keys, bucket=bucket, accept=accept)
        entries, lost = await self._run(self._readers, look_up)
        if lost and self._cache is not None:
            with suppress(RuntimeError):  # The threads are stopped already.
                self._writers.submit(mark_lost, self._cache, lost)
        return entries

    async def _store_batch(
        self, stores: list[StoreRequest]
    ) -> dict[StoreRequest, Entry | StoreFailedError]:
        with self._late_decoding.paused():
            entries = await self._run(
                self._writers, lambda cache: cache.store_many(stores), creates=True
            )
            self._late_decoding.note(entries)
        return dict(zip(stores, entries, strict=True))

    async def _run(
        self, threads: ThreadPoolExecutor, call: Callable[[ImageCache], T], *, creates: bool = False
    ) -> T:
        run = functools.partial(asyncio.get_running_loop().run_in_executor, threads)
        if self._cache is None:
            absent = None if creates else self._absent
            if absent is not None and await run(absent.is_absent):
                return await run(call, absent)
            self._cache = await self._open()
        return await run(call, self._cache)

    async def _open(self) -> ImageCache:
        if self._opening is None:
            self._opening = asyncio.ensure_future(asyncio.to_thread(self._open_cache))
        try:
            return await asyncio.shield(self._opening)
        except ImgCacheError:
            self._opening = None
            raise
        except Exception as error:
            # An error of the package: otherwise a batch would be taken apart, and try again.
            self._opening = None
            logger.exception("The cache cannot be opened: %s", type(error).__name__)
            raise UnavailableError("the cache cannot be opened; its log says why") from error


async def _unlimited(call: Callable[[], Awaitable[T]]) -> T:
    return await call()
