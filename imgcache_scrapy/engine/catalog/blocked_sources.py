"""BlockedSources: the queries for blocked hosts and URLs."""

from collections.abc import Collection
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Row

from imgcache_scrapy.core.audit import Deed
from imgcache_scrapy.core.blocked import BlockedSource, Source
from imgcache_scrapy.core.pages import ListPage
from imgcache_scrapy.core.times import iso
from imgcache_scrapy.engine.catalog import auditing, database
from imgcache_scrapy.engine.catalog.database import database_call
from imgcache_scrapy.engine.catalog.opening import OpenCatalog
from imgcache_scrapy.engine.catalog.paging import count_of_fitting, page_size
from imgcache_scrapy.engine.catalog.rows import now
from imgcache_scrapy.engine.catalog.sources import digest_of, find_blocked_sources
from imgcache_scrapy.engine.catalog.tables import blocked_source as _blocked

_age = (_blocked.c.created_at, _blocked.c.digest)
_newest_first = sa.select(_blocked).order_by(*(column.desc() for column in _age))


class BlockedSources(OpenCatalog):
    """The queries of a catalog for blocked hosts and URLs."""

    @database_call
    def may_block_sources(self) -> bool:
        """Return whether any host or URL is blocked; see `RareRows`."""
        return self._rare_rows.exist(_blocked)

    @database_call
    def blocked_sources_among(self, sources: Collection[Source]) -> set[Source]:
        """Return which of these hosts and URLs are blocked."""
        with database.connect_for_reading(self._engine) as connection:
            return find_blocked_sources(connection, sources)

    @database_call
    def block_source(self, source: Source, reason: str) -> None:
        """Block a host or a URL; no store of it is recorded after this.

        Args:
            source: the host or the URL.
            reason: replaces the reason of one that is blocked already.
        """
        with self.exclusive([]) as transaction:
            connection = transaction.connection
            database.wait_for_writers(connection, _blocked)
            its_row = _blocked.c.digest == digest_of(source)
            renewed = connection.execute(_blocked.update().where(its_row).values(reason=reason))
            if not renewed.rowcount:
                row = {"digest": digest_of(source), "reason": reason, "created_at": now()}
                connection.execute(_blocked.insert(), row | source._asdict())
        self._rare_rows.note_insert(_blocked)

    @database_call
    def unblock_source(self, source: Source, actor: str = "") -> bool:
        """Allow a host or a URL again; return whether it was blocked."""
        with self.exclusive([]) as transaction:
            connection = transaction.connection
            its_row = _blocked.delete().where(_blocked.c.digest == digest_of(source))
            was_blocked = bool(connection.execute(its_row).rowcount)
            if was_blocked:
                auditing.record(connection, Deed(actor, "unblock", {source.kind: source.value}))
        return was_blocked

    @database_call
    def blocked_sources_page(
        self, limit: int | None = None, after: str | None = None
    ) -> ListPage[BlockedSource]:
        """Return some blocked hosts and URLs, newest first.

        Args:
            limit: maximum number of them; None for a whole page.
            after: the position after which the page begins; None for the first page.
        """
        wanted, query = page_size(limit), _newest_first
        if after is not None:
            created_at, its_digest = after.split("_")
            position = sa.tuple_(int(created_at), bytes.fromhex(its_digest))
            query = query.where(sa.tuple_(*_age) < position)
        with database.connect_for_reading(self._engine) as connection:
            rows = connection.execute(query.limit(wanted + 1)).all()
        count = count_of_fitting(len(row.value) + len(row.reason) for row in rows[:wanted])
        last = rows[count - 1] if len(rows) > count else None
        position_after = last and f"{last.created_at}_{last.digest.hex()}"
        return ListPage([_source_of(row) for row in rows[:count]], position_after)


def _source_of(row: Row[Any]) -> BlockedSource:
    return {
        "content_hash": None,
        "host": row.value if row.kind == "host" else None,
        "url": row.value if row.kind == "url" else None,
        "reason": row.reason,
        "created_at": iso(row.created_at),
    }
