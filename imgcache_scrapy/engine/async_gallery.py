"""AsyncGallery: the coroutine methods of a cache that show images to people."""

from typing import NamedTuple

from imgcache_scrapy.engine.cache import ImageCache
from imgcache_scrapy.engine.catalog.catalog import Catalog
from imgcache_scrapy.engine.threads import CacheThreads, awaited_query


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
        """Add up all rows, in a thread that no other call waits for; it may take a minute."""
        return await self._limited(lambda: self._run(self._summers, _state))


def _state(cache: ImageCache) -> CacheState:
    catalog = cache.catalog
    return CacheState(
        totals=catalog.stats(),
        hosts=catalog.stats_by("host"),
        buckets=catalog.stats_by("bucket"),
        clients=catalog.stats_by("client"),
        types=catalog.stats_by("type"),
        growth=catalog.growth(),
        failures_by_reason=catalog.failure_counts("reason"),
        failures_by_host=catalog.failure_counts("host"),
        trouble=catalog.trouble_counts(),
    )
