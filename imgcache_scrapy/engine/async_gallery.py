"""AsyncGallery: the coroutine methods of a cache that show images to people."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple, TypeVar

from imgcache_scrapy.engine.catalog.catalog import Catalog
from imgcache_scrapy.engine.threads import CacheThreads, awaited_query

T = TypeVar("T")


class CacheState(NamedTuple):
    """What the rows of a catalog add up to.

    Attributes:
        totals: see `Catalog.stats`.
        hosts: the groups of `Catalog.stats_by`, as the next three.
        buckets: by bucket.
        clients: by client.
        types: by content type.
        growth: see `Catalog.growth`.
        failures_by_reason: see `Catalog.failure_counts`.
        failures_by_host: see `Catalog.failure_counts`.
        trouble: see `Catalog.trouble_counts`.
    """

    totals: dict[str, int]
    hosts: dict[str, dict[str, int]]
    buckets: dict[str, dict[str, int]]
    clients: dict[str, dict[str, int]]
    types: dict[str, dict[str, int]]
    growth: list[tuple[int, int, int]]
    failures_by_reason: dict[str, int]
    failures_by_host: dict[str, int]
    trouble: dict[str, int]


class AsyncGallery(CacheThreads):
    """The methods of `AsyncImageCache` that show images to people."""

    gallery_page = awaited_query(Catalog.gallery_page, is_costly=True)
    image_facts = awaited_query(Catalog.image_facts, is_costly=True)
    blocked_reason = awaited_query(Catalog.blocked_reason)

    async def state(self) -> CacheState:
        """Add up all rows, in a thread that no other call waits for; it may take a minute.

        Each sum is a call of its own, so that it ends soon if it is cancelled.
        """
        return CacheState(
            totals=await self._add_up(Catalog.stats),
            hosts=await self._add_up(partial(Catalog.stats_by, by="host")),
            buckets=await self._add_up(partial(Catalog.stats_by, by="bucket")),
            clients=await self._add_up(partial(Catalog.stats_by, by="client")),
            types=await self._add_up(partial(Catalog.stats_by, by="type")),
            growth=await self._add_up(Catalog.growth),
            failures_by_reason=await self._add_up(partial(Catalog.failure_counts, by="reason")),
            failures_by_host=await self._add_up(partial(Catalog.failure_counts, by="host")),
            trouble=await self._add_up(Catalog.trouble_counts),
        )

    async def _add_up(self, query: Callable[[Catalog], T]) -> T:
        return await self._limited(
            lambda: self._run(self._summers, lambda cache: query(cache.catalog))
        )
