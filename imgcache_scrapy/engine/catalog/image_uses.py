"""ImageUses: the queries for the uses of images by pages, items, spiders and jobs."""

from collections.abc import Collection, Sequence

import sqlalchemy as sa

from imgcache_scrapy.core.batches import batches
from imgcache_scrapy.core.pages import ListPage
from imgcache_scrapy.core.uses import NewUse, Use
from imgcache_scrapy.engine.catalog import database
from imgcache_scrapy.engine.catalog.database import database_call
from imgcache_scrapy.engine.catalog.opening import OpenCatalog
from imgcache_scrapy.engine.catalog.paging import count_of_fitting, page_size
from imgcache_scrapy.engine.catalog.rows import digest
from imgcache_scrapy.engine.catalog.tables import image_use as _use
from imgcache_scrapy.engine.catalog.use_rows import characters_of, record_uses, use_of

# The uses of one write transaction, for which other writers wait.
_BATCH_SIZE = 250
# In PostgreSQL, all connections together have room for some thousands of locks, one for each image.
_MAX_LOCKS = 100


class ImageUses(OpenCatalog):
    """The queries of a catalog for uses."""

    @database_call
    def record_uses(self, uses: Sequence[NewUse]) -> int:
        """Record uses of images that the cache has; one that is known is renewed.

        Returns:
            The number of uses whose image is in the cache; the others are left out.
        """
        size = _MAX_LOCKS if self.file is None else _BATCH_SIZE
        return sum(self._record_batch(batch) for batch in batches(uses, size))

    def _record_batch(self, uses: Sequence[NewUse]) -> int:
        with self.exclusive({use.content_hash for use in uses}) as transaction:
            return record_uses(transaction.connection, uses)

    @database_call
    def uses_page(
        self,
        content_hashes: Collection[str] | None = None,
        page_url: str | None = None,
        bucket: str | None = None,
        limit: int | None = None,
        after: str | None = None,
    ) -> ListPage[Use]:
        """Return some uses, those that were recorded last first; a renewal changes no order.

        Args:
            content_hashes: only those of these images; None for all.
            page_url: only those on this page, as `page_of` returns it; None for all.
            bucket: only those in this bucket; None for all.
            limit: maximum number of uses; None for a whole page.
            after: the position after which the page begins; None for the first page.
        """
        wanted = page_size(limit)
        query = sa.select(_use).order_by(_use.c.id.desc()).limit(wanted + 1)
        if content_hashes is not None:
            query = query.where(_use.c.content_hash.in_(list(content_hashes)))
        if page_url is not None:
            query = query.where(_use.c.page_digest == digest(page_url))
        if bucket is not None:
            query = query.where(_use.c.bucket == bucket)
        if after is not None:
            query = query.where(_use.c.id < int(after))
        with database.connect_for_reading(self._engine) as connection:
            rows = connection.execute(query).all()
        count = count_of_fitting(map(characters_of, rows[:wanted]))
        last = rows[count - 1] if len(rows) > count else None
        return ListPage([use_of(row) for row in rows[:count]], last and str(last.id))
