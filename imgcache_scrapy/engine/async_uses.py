"""AsyncImageUses: the coroutine methods of a cache for the uses of images."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from imgcache_scrapy.core.uses import NewUse
from imgcache_scrapy.engine.catalog.catalog import Catalog
from imgcache_scrapy.engine.last_use_recorder import LastUseRecorder
from imgcache_scrapy.engine.threads import CacheThreads, awaited_query


class AsyncImageUses(CacheThreads):
    """The methods of `AsyncImageCache` for uses."""

    _last_uses: LastUseRecorder

    # An image, and a page, may have any number of uses.
    uses_page = awaited_query(Catalog.uses_page, is_costly=True)

    async def record_uses(self, uses: Sequence[NewUse]) -> int:
        """Record uses of images that the cache has; see `Catalog.record_uses`.

        Those of the last day are also the last use of their image.
        """
        recorded = await self._limited(
            lambda: self._run(self._writers, lambda cache: cache.catalog.record_uses(uses))
        )
        since = datetime.now(UTC) - timedelta(days=1)
        self._last_uses.note(
            use.content_hash for use in uses if use.used_at is None or use.used_at > since
        )
        return recorded
