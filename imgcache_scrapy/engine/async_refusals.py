"""AsyncRefusals: the coroutine methods of a cache for blocked images and remembered failures."""

import functools
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TypeVar

from imgcache_scrapy.core.blocked import BlockedImage
from imgcache_scrapy.core.errors import not_blocked
from imgcache_scrapy.core.failures import Failure, SeenFailure
from imgcache_scrapy.core.pages import all_pages
from imgcache_scrapy.engine.catalog.catalog import Catalog
from imgcache_scrapy.engine.threads import CacheThreads, awaited_query
from imgcache_scrapy.engine.thumbnails import block_image

T = TypeVar("T")


class AsyncRefusals(CacheThreads):
    """The methods of `AsyncImageCache` for what the cache does not take."""

    blocked_page = awaited_query(Catalog.blocked_page)
    suggest_blocked = awaited_query(Catalog.suggest_blocked, is_costly=True)
    failures_page = awaited_query(Catalog.failures_page, is_costly=True)

    async def block(self, content_hash: str, reason: str = "", actor: str = "") -> BlockedImage:
        """Block an image; see `Catalog.block`."""
        block = functools.partial(
            block_image, content_hash=content_hash, reason=reason, actor=actor
        )
        return await self._limited(lambda: self._run(self._writers, block, creates=True))

    async def unblock(self, content_hash: str, actor: str = "") -> None:
        """Allow an image again.

        Raises:
            NotFoundError: it is not blocked.
        """
        if not await self._write(lambda catalog: catalog.unblock(content_hash, actor)):
            raise not_blocked(f"the image {content_hash}")

    async def blocked(self, limit: int | None = None) -> list[BlockedImage]:
        """Return the blocked images, newest first."""
        return await all_pages(self.blocked_page, limit)

    async def remember_failures(self, failures: Sequence[SeenFailure], bucket: str) -> None:
        """Remember failures of sites; see `Catalog.remember_failures`."""
        await self._write(lambda catalog: catalog.remember_failures(failures, bucket), creates=True)

    async def failures(
        self, host: str | None, since: datetime | None, bucket: str | None, limit: int | None
    ) -> list[Failure]:
        """Return the failures that are still remembered, newest first."""
        return await all_pages(functools.partial(self.failures_page, host, since, bucket), limit)

    async def _write(self, call: Callable[[Catalog], T], *, creates: bool = False) -> T:
        return await self._limited(
            lambda: self._run(self._writers, lambda cache: call(cache.catalog), creates=creates)
        )
