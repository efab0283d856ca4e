"""AsyncRefusals: the coroutine methods of a cache for blocked images and remembered failures."""

import functools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import TypeVar

from imgcache_scrapy.core.blocked import BlockedImage
from imgcache_scrapy.core.entry import Entry
from imgcache_scrapy.core.errors import not_blocked
from imgcache_scrapy.core.failures import Failure, SeenFailure
from imgcache_scrapy.core.pages import ListPage, all_pages_async
from imgcache_scrapy.engine.catalog.catalog import Catalog
from imgcache_scrapy.engine.threads import CacheThreads

T = TypeVar("T")


class AsyncRefusals(CacheThreads):
    """The methods of `AsyncImageCache` for what the cache does not take."""

    async def block(self, content_hash: str, reason: str = "") -> BlockedImage:
        """Block an image; see `Catalog.block`."""
        return await self._call(
            self._writers, lambda catalog: catalog.block(content_hash, reason), creates=True
        )

    async def unblock(self, content_hash: str) -> None:
        """Allow an image again.

        Raises:
            NotFoundError: it is not blocked.
        """
        if not await self._call(self._writers, lambda catalog: catalog.unblock(content_hash)):
            raise not_blocked(content_hash)

    async def blocked(self, limit: int | None = None) -> list[BlockedImage]:
        """Return the blocked images, newest first."""
        return await all_pages_async(self.blocked_page, limit)

    async def blocked_page(
        self, limit: int | None = None, after: str | None = None
    ) -> ListPage[BlockedImage]:
        """Return some blocked images; see `Catalog.blocked_page`."""
        return await self._call(self._readers, lambda catalog: catalog.blocked_page(limit, after))

    async def suggest_blocked(
        self, bucket: str | None = None, limit: int | None = None
    ) -> list[Entry]:
        """Find images that may be placeholders; see `Catalog.suggest_blocked`."""
        return await self._call(
            self._scanners, lambda catalog: catalog.suggest_blocked(bucket, limit)
        )

    async def remember_failures(self, failures: Sequence[SeenFailure], bucket: str) -> None:
        """Remember failures of sites; see `Catalog.remember_failures`."""
        await self._call(
            self._writers, lambda catalog: catalog.remember_failures(failures, bucket), creates=True
        )

    async def failures(
        self, host: str | None, since: datetime | None, bucket: str | None, limit: int | None
    ) -> list[Failure]:
        """Return the failures that are still remembered, newest first."""
        return await all_pages_async(
            functools.partial(self.failures_page, host, since, bucket), limit
        )

    async def failures_page(
        self,
        host: str | None = None,
        since: datetime | None = None,
        bucket: str | None = None,
        limit: int | None = None,
        after: str | None = None,
    ) -> ListPage[Failure]:
        """Return some of the failures; see `Catalog.failures_page`."""
        return await self._call(
            self._scanners,
            lambda catalog: catalog.failures_page(host, since, bucket, limit, after),
        )

    async def _call(
        self, threads: ThreadPoolExecutor, call: Callable[[Catalog], T], *, creates: bool = False
    ) -> T:
        return await self._limited(
            lambda: self._run(threads, lambda cache: call(cache.catalog), creates=creates)
        )
