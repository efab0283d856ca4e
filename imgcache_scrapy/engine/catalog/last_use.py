"""LastUses: when images were last used, to the day, and which of them may go."""

from collections.abc import Collection
from typing import NamedTuple

import sqlalchemy as sa

from imgcache_scrapy.engine.catalog import database
from imgcache_scrapy.engine.catalog.database import database_call
from imgcache_scrapy.engine.catalog.opening import OpenCatalog
from imgcache_scrapy.engine.catalog.rows import today
from imgcache_scrapy.engine.catalog.tables import capture, image, is_unused, used_on

_total_bytes = sa.select(sa.func.coalesce(sa.func.sum(image.c.file_size_bytes), 0))
_other = image.alias()
_record = (
    image.update()
    .where(
        image.c.content_hash.in_(
            sa.select(_other.c.content_hash)
            .where(
                _other.c.content_hash.in_(sa.bindparam("hashes", expanding=True)),
                sa.or_(_other.c.last_used.is_(None), _other.c.last_used < sa.bindparam("day")),
            )
            # To wait for another transaction could be a deadlock. One that refers to the image does
            # not hold it.
            .with_for_update(skip_locked=True, key_share=True)
        )
    )
    .values(last_used=sa.bindparam("day"))
)


class Unused(NamedTuple):
    """An image that was not used today.

    Attributes:
        day: the day of its last use, in days since 1970.
        content_hash: the hash of the image.
        size: its size in bytes.
    """

    day: int
    content_hash: str
    size: int


class Rule(NamedTuple):
    """Which images may go: those that meet one of the conditions; None is no condition.

    Attributes:
        used_before: last used before this day, in days since 1970.
        seen_before: all captures made before this time, in microseconds since 1970.
    """

    used_before: int | None = None
    seen_before: int | None = None

    def conditions(self) -> list[sa.ColumnElement[bool]]:
        """Return the conditions in SQL."""
        found: list[sa.ColumnElement[bool]] = []
        if self.used_before is not None:
            found.append(used_on < self.used_before)
        if self.seen_before is not None:
            captures = sa.select(capture.c.id).where(capture.c.content_hash == image.c.content_hash)
            is_new = captures.where(capture.c.lookup_time >= self.seen_before).exists()
            found.append(sa.and_(captures.exists(), ~is_new))
        return found


class LastUses(OpenCatalog):
    """The queries of a catalog for the last use of images."""

    @database_call
    def record_last_uses(self, content_hashes: Collection[str]) -> None:
        """Record that images were used today."""
        with self.exclusive([]) as transaction:
            values = {"hashes": list(content_hashes), "day": today()}
            transaction.connection.execute(_record, values)

    @database_call
    def total_bytes(self) -> int:
        """Return the size of all images together."""
        with database.connect_for_reading(self._engine) as connection:
            return int(connection.scalar(_total_bytes) or 0)

    @database_call
    def unused(self, limit: int, after: Unused | None, rule: Rule, *, meets: bool) -> list[Unused]:
        """Return images that were not used today, the least recently used first.

        Args:
            limit: maximum number of images.
            after: the image after which the list begins; None for the first one.
            rule: which images may go.
            meets: True for the images that meet the rule, False for the others.
        """
        query = sa.select(used_on, image.c.content_hash, image.c.file_size_bytes)
        query = query.where(is_unused(today()))
        may_go = sa.or_(sa.false(), *rule.conditions())
        query = query.where(may_go if meets else ~may_go)
        if after is not None:
            query = query.where(sa.tuple_(used_on, image.c.content_hash) > sa.tuple_(*after[:2]))
        query = query.order_by(used_on, image.c.content_hash).limit(limit)
        with database.connect_for_reading(self._engine) as connection:
            return [Unused(*row) for row in connection.execute(query)]
