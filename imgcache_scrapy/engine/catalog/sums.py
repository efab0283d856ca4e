"""Sums: the queries that read a whole catalog to describe its state."""

from typing import Any

import sqlalchemy as sa

from imgcache_scrapy.engine.catalog import database
from imgcache_scrapy.engine.catalog.database import database_call
from imgcache_scrapy.engine.catalog.opening import OpenCatalog
from imgcache_scrapy.engine.catalog.rows import MICROSECONDS_A_DAY, now
from imgcache_scrapy.engine.catalog.tables import blocked, capture, failure, image, is_not_decoded

_MAX_GROUPS = 50


class Sums(OpenCatalog):
    """The queries of a catalog that read all of its rows."""

    @database_call
    def growth(self) -> list[tuple[int, int, int]]:
        """Return the new images of each day that has any, the oldest day first.

        Returns:
            The day, in days since 1970, UTC; the number of new images, and their bytes.
        """
        first = (
            sa.select(
                capture.c.content_hash,
                (sa.func.min(capture.c.created_at) // MICROSECONDS_A_DAY).label("day"),
            )
            .group_by(capture.c.content_hash)
            .subquery()
        )
        query = (
            sa.select(first.c.day, sa.func.count(), sa.func.sum(image.c.file_size_bytes))
            .join(image, image.c.content_hash == first.c.content_hash)
            .group_by(first.c.day)
            .order_by(first.c.day)
        )
        with database.connect_for_reading(self._engine) as connection:
            return [
                (int(day), int(count), int(size)) for day, count, size in connection.execute(query)
            ]

    @database_call
    def failure_counts(self, by: str) -> dict[str, int]:
        """Return the number of remembered failures of each `reason` or `host`, most first."""
        column = failure.c[by]
        query = (
            sa.select(column, sa.func.count().label("failures"))
            .where(failure.c.expires_at > now())
            .group_by(column)
            .order_by(sa.desc("failures"), column)
            .limit(_MAX_GROUPS)
        )
        with database.connect_for_reading(self._engine) as connection:
            return {name: int(count) for name, count in connection.execute(query)}

    @database_call
    def trouble_counts(self) -> dict[str, int]:
        """Return the number of `blocked` images, and of those `waiting` for their decoding.

        Also the number of images that cannot be decoded, by their `DecodeError`.
        """
        waiting = sa.select(sa.func.count()).select_from(image).where(is_not_decoded)
        undecoded: sa.Select[Any] = (
            sa.select(image.c.decode_error, sa.func.count())
            # Images without a hash have no bands, which have an index.
            .where(image.c.band0.is_(None), image.c.decode_error.is_not(None))
            .group_by(image.c.decode_error)
        )
        with database.connect_for_reading(self._engine) as connection:
            return {
                "blocked": connection.scalar(sa.select(sa.func.count()).select_from(blocked)) or 0,
                "waiting": connection.scalar(waiting) or 0,
                **{name: int(count) for name, count in connection.execute(undecoded)},
            }
