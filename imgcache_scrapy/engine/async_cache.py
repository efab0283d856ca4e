"""AsyncImageCache: the cache for an event loop, with few threads and batched calls."""

import functools
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from imgcache_scrapy.core.concurrency import Batcher, Limiter
from imgcache_scrapy.core.deadline import timeout
from imgcache_scrapy.core.entry import Entry
from imgcache_scrapy.core.errors import UnavailableError
from imgcache_scrapy.core.failures import Found
from imgcache_scrapy.core.pages import all_pages
from imgcache_scrapy.engine.absent import AbsentCache
from imgcache_scrapy.engine.async_gallery import AsyncGallery
from imgcache_scrapy.engine.async_refusals import AsyncRefusals
from imgcache_scrapy.engine.async_takedown import AsyncTakeDowns
from imgcache_scrapy.engine.async_thumbnails import AsyncThumbnails
from imgcache_scrapy.engine.async_uses import AsyncImageUses
from imgcache_scrapy.engine.cache import ImageCache
from imgcache_scrapy.engine.catalog.catalog import Catalog
from imgcache_scrapy.engine.catalog.database import is_common
from imgcache_scrapy.engine.last_use_recorder import LastUseRecorder
from imgcache_scrapy.engine.late_decoding import LateDecoding, decode_next
from imgcache_scrapy.engine.lookup import lookup_many, mark_lost
from imgcache_scrapy.engine.size_cap import SizeCap
from imgcache_scrapy.engine.store_request import ClaimRequest, StoreRequest
from imgcache_scrapy.engine.threads import WRITER_THREADS, awaited_query

T = TypeVar("T")
_LookupKey = tuple[str | None, str | None, str]

# All waiters of a batch resume together when it ends; a large batch would block the loop.
_MAX_LOOKUPS = 32
_MAX_STORES = 32
_HEALTH_SECONDS = 3


class AsyncImageCache(AsyncGallery, AsyncImageUses, AsyncRefusals, AsyncTakeDowns, AsyncThumbnails):
    """An `ImageCache` with coroutine methods; use it within one event loop.

    The service answers requests with it, and it is the transport of a client with an embedded
    cache. Lookups that arrive while another lookup is running are sent together in the next
    query. Stores are batched in the same way.

    Args:
        open_cache: as for `CacheThreads`.
        close_cache: as for `CacheThreads`.
        limiter: as for `CacheThreads`.
        absent: as for `CacheThreads`.
        max_bytes: the size of all images together that stores keep; None for no limit.

    Attributes:
        supports_claims: always True; other transports may lack the call `claim`.
    """

    supports_claims = True

    def __init__(
        self,
        open_cache: Callable[[], ImageCache],
        close_cache: Callable[[ImageCache], None],
        limiter: Limiter | None = None,
        absent: AbsentCache | None = None,
        max_bytes: int | None = None,
    ) -> None:
        super().__init__(open_cache, close_cache, limiter, absent)
        self._last_uses = LastUseRecorder(self._record_last_uses)
        self._cap = (
            None if max_bytes is None else SizeCap(max_bytes, self._scan, self._last_uses.record)
        )
        self._late_decoding = LateDecoding(lambda: self._run(self._decoding_thread, decode_next))
        self._lookup_batcher: Batcher[_LookupKey, Entry] = Batcher(
            self._lookup_batch, max_batch=_MAX_LOOKUPS, is_common=is_common
        )
        self._store_batcher: Batcher[StoreRequest | ClaimRequest, Entry] = Batcher(
            self._store_batch,
            max_batch=_MAX_STORES,
            max_calls=WRITER_THREADS,
            is_common=is_common,
        )

    type_and_size = awaited_query(Catalog.type_and_size)
    # An image, and a key, may have any number of captures.
    get_meta = awaited_query(Catalog.get_meta, is_costly=True)
    history_page = awaited_query(Catalog.history_page, is_costly=True)
    captures_page = awaited_query(Catalog.captures_page, is_costly=True)
    search_page = awaited_query(Catalog.search_page, is_costly=True)
    similar_page = awaited_query(Catalog.similar_page, is_costly=True)
    stats = awaited_query(Catalog.stats, is_costly=True)
    buckets = awaited_query(Catalog.buckets, is_costly=True)
    list_page = awaited_query(Catalog.list_page, is_costly=True)
    count = awaited_query(Catalog.count, is_costly=True)
    stats_by = awaited_query(Catalog.stats_by, is_costly=True)

    async def search(
        self, url_contains: str, bucket: str | None = None, limit: int | None = None
    ) -> list[Entry]:
        """Return the captures whose URL contains a text; see `Catalog.search_page`."""
        return await all_pages(functools.partial(self.search_page, url_contains, bucket), limit)

    async def similar(
        self,
        perceptual_hash: str,
        max_hamming_distance: int,
        bucket: str | None = None,
        limit: int | None = None,
    ) -> list[Entry]:
        """Return the images whose hash is near a given one; see `Catalog.similar_page`."""
        hash_and_distance = (perceptual_hash, max_hamming_distance)
        return await all_pages(
            functools.partial(self.similar_page, *hash_and_distance, bucket), limit
        )

    async def history(
        self, keys: Sequence[str], bucket: str | None = None, limit: int | None = None
    ) -> list[Entry]:
        """Return all captures of some keys; see `Catalog.history_page`."""
        return await all_pages(functools.partial(self.history_page, keys, bucket), limit)

    async def captures(
        self, content_hash: str, bucket: str | None = None, limit: int | None = None
    ) -> list[Entry]:
        """Return all captures of an image; see `Catalog.captures_page`."""
        read = functools.partial(self.captures_page, content_hash, bucket)
        return await all_pages(read, limit)

    async def lookup(
        self, key: str, bucket: str | None = None, accept: str | None = None
    ) -> Entry | None:
        """Return the entry of the newest capture of a key; None if there is none."""
        entry = await self._limited(lambda: self._lookup_batcher.ask((bucket, accept, key)))
        return None if entry is None else entry.copy()

    async def lookup_many(
        self,
        keys: Iterable[str],
        bucket: str | None = None,
        accept: str | None = None,
        urls: Collection[str] = (),
    ) -> Found:
        """Return the newest captures of keys, and the remembered failures of URLs.

        Misses are missing. See `engine.lookup.lookup_many`.
        """
        return await self._limited(lambda: self._look_up(list(keys), bucket, accept, urls))

    async def store(self, url: str, data: bytes, client_name: str, **options: Any) -> Entry:
        """Store one image; the arguments are those of `StoreRequest.of`."""
        store = StoreRequest.of(url, data, client_name, **options)
        entry = await self._limited(lambda: self._store_batcher.ask(store))
        assert entry is not None  # noqa: S101 - every store has an entry
        return entry

    async def claim(
        self, url: str, content_hash: str, client_name: str, **options: Any
    ) -> Entry | None:
        """Record a capture of an image without its bytes; see `ImageCache.store_many`.

        The arguments are those of `ClaimRequest.of`.
        """
        claim = ClaimRequest.of(url, content_hash, client_name, **options)
        return await self._limited(lambda: self._store_batcher.ask(claim))

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
        found = await self._limited(
            lambda: self._run(
                self._blob_readers, lambda cache: cache.get_image(content_hash, bucket)
            )
        )
        self._last_uses.note([content_hash])
        return found

    async def read_blobs(self, call: Callable[[ImageCache], T]) -> T:
        """Call a function with the cache in one of the threads that read blobs."""
        return await self._run(self._blob_readers, call)

    async def delete(self, content_hash: str, bucket: str = "", actor: str = "") -> None:
        """Delete an image; see `ImageCache.delete`."""
        await self._limited(
            lambda: self._run(
                self._writers, lambda cache: cache.delete(content_hash, bucket, actor)
            )
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
            if self._limiter.is_inherited:
                return  # The parent of this process goes on with its threads and its cache.
            await self._limiter.finish()
        await self._late_decoding.aclose()
        await self._last_uses.aclose()
        await self._close()

    async def _lookup_batch(self, lookups: list[_LookupKey]) -> dict[_LookupKey, Entry]:
        groups = defaultdict(list)
        for bucket, accept, key in lookups:
            groups[bucket, accept].append(key)
        found: dict[_LookupKey, Entry] = {}
        for (bucket, accept), keys in groups.items():
            entries = (await self._look_up(keys, bucket, accept)).entries
            found |= {(bucket, accept, key): entry for key, entry in entries.items()}
        return found

    async def _look_up(
        self,
        keys: list[str],
        bucket: str | None,
        accept: str | None,
        urls: Collection[str] = (),
    ) -> Found:
        look_up = functools.partial(lookup_many, keys=keys, bucket=bucket, accept=accept, urls=urls)
        entries, lost, failures, blocked = await self._run(self._readers, look_up)
        if lost and self._cache is not None:
            with suppress(RuntimeError):  # The threads are stopped already.
                self._writers.submit(mark_lost, self._cache, lost)
        self._last_uses.note(entry["content_hash"] for entry in entries.values())
        return Found(entries, failures, blocked)

    async def _record_last_uses(self, content_hashes: list[str]) -> None:
        await self._run(self._writers, lambda cache: cache.catalog.record_last_uses(content_hashes))

    async def _scan(self, call: Callable[[ImageCache], T]) -> T:
        return await self._run(self._scanners, call)

    async def _store_batch(
        self, requests: list[StoreRequest | ClaimRequest]
    ) -> dict[StoreRequest | ClaimRequest, Entry | Exception]:
        creates = any(isinstance(each, StoreRequest) for each in requests)
        if self._cap is not None:
            sizes = {
                each.content_hash: len(each.data)
                for each in requests if isinstance(each, StoreRequest)
            }  # fmt: skip
            await self._cap.make_room(sum(sizes.values()))
        with self._late_decoding.paused():
            entries = await self._run(
                self._writers, lambda cache: cache.store_many(requests), creates=creates
            )
            self._late_decoding.note(entries)
        stored = [each for each in entries if not isinstance(each, Exception | None)]
        # The rows of new images have their first day of use already.
        self._last_uses.note(each["content_hash"] for each in stored if not each["created"])
        answers = zip(requests, entries, strict=True)
        return {request: entry for request, entry in answers if entry is not None}
