"""Search captures by a part of their URL."""

from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from itertools import islice
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, RowMapping

from imgcache_scrapy.core.entry import Entry
from imgcache_scrapy.engine.catalog import url_index
from imgcache_scrapy.engine.catalog.functions import contains
from imgcache_scrapy.engine.catalog.rows import entry_of, now
from imgcache_scrapy.engine.catalog.tables import (
    capture,
    entries,
    in_bucket,
    newest_first,
    seen_at,
)

_MAX_FETCHED_ROWS = 1000
_has_times_after = sa.select(sa.exists().where(capture.c.lookup_time > sa.bindparam("at")))


def search(
    connection: Connection, url_contains: str, bucket: str | None, limit: int | None
) -> list[Entry]:
    """Return the newest capture of each URL that contains a text; see `Catalog.search`."""
    matching = contains(capture.c.url, url_contains)
    order = _newest_first(connection)
    query = in_bucket(entries.where(matching), bucket).order_by(*order)
    candidates = url_index.candidates(connection, url_contains)
    ids = None
    if candidates is not None:
        # Sorted before the images are joined: joining first takes three times as long.
        found = sa.select(capture.c.id).where(capture.c.id.in_(candidates), matching)
        ids = connection.scalars(in_bucket(found, bucket).order_by(*order)).all()
    count = min(limit or _MAX_FETCHED_ROWS, _MAX_FETCHED_ROWS)
    with closing(_rows_in_batches(connection, query, ids, count)) as rows:
        return list(islice(_newest_of_urls(rows), limit))


def _newest_first(connection: Connection) -> Sequence[sa.ColumnElement[Any]]:
    at = now()
    # Only the order of the column itself has an index. Times after `at` are very rare.
    if not connection.scalar(_has_times_after, {"at": at}):
        return newest_first
    return seen_at(at).desc(), capture.c.id.desc()


def _rows_in_batches(
    connection: Connection, query: sa.Select[Any], ids: Sequence[int] | None, count: int
) -> Generator[RowMapping, None, None]:
    """Fetch `count` rows at a time: all rows of a query, or those of captures in this order."""
    if ids is None:
        with connection.execution_options(yield_per=count).execute(query) as rows:
            yield from rows.mappings()
        return
    for start in range(0, len(ids), count):
        batch = query.where(capture.c.id.in_(ids[start : start + count]))
        yield from connection.execute(batch).mappings()


def _newest_of_urls(rows: Iterable[RowMapping]) -> Iterator[Entry]:
    """Yield the first entry of each URL whose image is not damaged."""
    seen = set()
    for row in rows:
        if not row["damaged"] and row["url"] not in seen:
            seen.add(row["url"])
            yield entry_of(row)
