"""The search for captures by a part of their URL."""

from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from itertools import islice
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, RowMapping

from imgcache_scrapy.core.entry import Entry
from imgcache_scrapy.engine.catalog import url_index
from imgcache_scrapy.engine.catalog.functions import contains
from imgcache_scrapy.engine.catalog.rows import entry_of
from imgcache_scrapy.engine.catalog.tables import capture, entries, in_bucket, newest_first

_FETCHED_ROWS = 1000


def search(
    connection: Connection, url_contains: str, bucket: str | None, limit: int | None
) -> list[Entry]:
    """Return the newest capture of each URL that contains a text; see `Catalog.search`."""
    matching = contains(capture.c.url, url_contains)
    query = in_bucket(entries.where(matching), bucket).order_by(*newest_first)
    few = url_index.candidates(connection, url_contains)
    ids = None
    if few is not None:
        # Sorted before their images are joined, which costs three times as much.
        found = sa.select(capture.c.id).where(capture.c.id.in_(few), matching)
        ids = connection.scalars(in_bucket(found, bucket).order_by(*newest_first)).all()
    count = min(limit or _FETCHED_ROWS, _FETCHED_ROWS)
    with closing(_portions(connection, query, ids, count)) as rows:
        return list(islice(_newest_of_urls(rows), limit))


def _portions(
    connection: Connection, query: sa.Select[Any], ids: Sequence[int] | None, count: int
) -> Generator[RowMapping, None, None]:
    """Fetch the rows of a query, or those of some captures in this order, so many at a time."""
    if ids is None:
        with connection.execution_options(yield_per=count).execute(query) as rows:
            yield from rows.mappings()
        return
    for start in range(0, len(ids), count):
        some = query.where(capture.c.id.in_(ids[start : start + count]))
        yield from connection.execute(some).mappings()


def _newest_of_urls(rows: Iterable[RowMapping]) -> Iterator[Entry]:
    """Give the first entry of each URL, unless its image is damaged."""
    seen = set()
    for row in rows:
        if row["url"] not in seen:
            seen.add(row["url"])
            if not row["damaged"]:
                yield entry_of(row)
