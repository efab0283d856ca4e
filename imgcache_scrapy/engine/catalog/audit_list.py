"""AuditList: the acts by hand that a catalog remembers."""

import json
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Row

from imgcache_scrapy.core.audit import AuditEntry
from imgcache_scrapy.core.pages import ListPage
from imgcache_scrapy.core.times import iso
from imgcache_scrapy.engine.catalog import database
from imgcache_scrapy.engine.catalog.database import database_call
from imgcache_scrapy.engine.catalog.opening import OpenCatalog
from imgcache_scrapy.engine.catalog.paging import count_of_fitting, page_size
from imgcache_scrapy.engine.catalog.tables import audit as _audit

_newest_first = sa.select(_audit).order_by(_audit.c.id.desc())


class AuditList(OpenCatalog):
    """The queries of a catalog for its audit list."""

    @database_call
    def audit_page(
        self, limit: int | None = None, after: str | None = None
    ) -> ListPage[AuditEntry]:
        """Return some acts, newest first.

        Args:
            limit: maximum number of acts; None for a whole page.
            after: the position after which the page begins; None for the first page.
        """
        wanted = page_size(limit)
        query = _newest_first if after is None else _newest_first.where(_audit.c.id < int(after))
        with database.connect_for_reading(self._engine) as connection:
            rows = connection.execute(query.limit(wanted + 1)).all()
        count = count_of_fitting(len(row.filter) + len(row.actor) for row in rows[:wanted])
        last = rows[count - 1] if len(rows) > count else None
        return ListPage([_entry_of(row) for row in rows[:count]], last and str(last.id))


def _entry_of(row: Row[Any]) -> AuditEntry:
    return {
        "done_at": iso(row.done_at),
        "actor": row.actor,
        "act": row.act,
        "filter": json.loads(row.filter),
        "captures": row.captures,
        "images": row.images,
        "bytes": row.bytes,
    }
