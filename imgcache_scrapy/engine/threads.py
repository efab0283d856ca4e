"""CacheThreads: opens a cache when it is needed, and runs calls to it in a few threads."""

import asyncio
import functools
import logging
import os
import sys
import threading
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Concatenate, ParamSpec, TypeVar

from imgcache_scrapy.core.concurrency import Limiter
from imgcache_scrapy.core.errors import ImgCacheError, UnavailableError
from imgcache_scrapy.engine.absent import AbsentCache
from imgcache_scrapy.engine.cache import ImageCache
from imgcache_scrapy.engine.catalog.catalog import Catalog
from imgcache_scrapy.engine.decoding.decoders import CHILDREN
from imgcache_scrapy.engine.decoding.thumbnails import MAKERS

logger = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

# With many threads, the event loop would often wait for the interpreter lock.
_READER_THREADS = 2
# A separate pool for queries that read many rows: lookups must not wait for them. With one thread,
# they leave the other processors to the lookups.
_SCANNER_THREADS = 1
# A separate pool: an object store that hangs must not delay lookups.
_BLOB_READER_THREADS = 4
# A separate pool for the sums over all rows, which take long: nothing must wait for them.
_SUMMER_THREADS = 1
_LOWEST_PRIORITY = 19
WRITER_THREADS = CHILDREN
"""Number of threads that write: one store decodes pictures while another one writes."""


class CacheThreads:
    """The threads of an `AsyncImageCache`; use them within one event loop.

    Args:
        open_cache: returns the cache; called in a thread by the first method that needs the
            cache, and called again if it raised.
        close_cache: closes the cache; called in a thread by `_close`.
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
        self._summers = ThreadPoolExecutor(
            _SUMMER_THREADS, "imgcache-sum", initializer=_lower_priority
        )
        self._blob_readers = ThreadPoolExecutor(_BLOB_READER_THREADS, "imgcache-read-blob")
        self._writers = ThreadPoolExecutor(WRITER_THREADS, "imgcache-write")
        # A separate thread: it often waits for the decoder.
        self._decoding_thread = ThreadPoolExecutor(1, "imgcache-decode")
        self._thumbnail_threads = ThreadPoolExecutor(MAKERS, "imgcache-thumbnail")

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

    async def _close(self) -> None:
        """Stop the threads after their calls, and close the cache."""
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
            self._summers,
            self._blob_readers,
            self._writers,
            self._decoding_thread,
            self._thumbnail_threads,
        ):
            threads.shutdown()


def awaited_query(
    query: Callable[Concatenate[Catalog, P], T], *, is_costly: bool = False
) -> Callable[Concatenate[CacheThreads, P], Coroutine[Any, Any, T]]:
    """Derive a coroutine method from a query of the catalog; the query runs in a thread.

    Args:
        query: the query.
        is_costly: whether it may read many rows, so that lookups must not wait for it.
    """

    @functools.wraps(query)
    async def method(self: CacheThreads, /, *args: P.args, **kwargs: P.kwargs) -> T:
        def call(cache: ImageCache) -> T:
            return query(cache.catalog, *args, **kwargs)

        threads = self._scanners if is_costly else self._readers
        return await self._limited(functools.partial(self._run, threads, call))

    return method


def _lower_priority() -> None:
    """Let the calling thread run only when no other one wants the processor, where Linux can."""
    if sys.platform == "linux":
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _LOWEST_PRIORITY)


async def _unlimited(call: Callable[[], Awaitable[T]]) -> T:
    return await call()
