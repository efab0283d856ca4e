"""WholeRows: read whole rows of a catalog, page by page, to copy or to rebuild a cache."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from imgcache_scrapy.core.batches import batches
from imgcache_scrapy.engine.catalog import database
from imgcache_scrapy.engine.catalog.database import database_call
from imgcache_scrapy.engine.catalog.opening import OpenCatalog
from imgcache_scrapy.engine.catalog.paging import MAX_VALUES, characters, count_of_fitting
from imgcache_scrapy.engine.catalog.rows import digest
from imgcache_scrapy.engine.catalog.tables import capture as _capture
from imgcache_scrapy.engine.catalog.tables import image as _image
from imgcache_scrapy.engine.catalog.tables import image_use, used_on

Row = Mapping[str, Any]
"""A row by the names of its columns."""

_find_images = sa.select(
    *(column for column in _image.c if column.name != "last_used"), used_on.label("last_used")
).where(_image.c.content_hash.in_(sa.bindparam("hashes", expanding=True)))
_sizes_after = (
    sa.select(_capture.c.id, characters)
    .where(_capture.c.id > sa.bindparam("after"))
    .order_by(_capture.c.id)
    .limit(sa.bindparam("limit"))
)
_captures_between = (
    sa.select(_capture)
    .where(_capture.c.id > sa.bindparam("after"), _capture.c.id <= sa.bindparam("last"))
    .order_by(_capture.c.id)
)
_captures_at = sa.select(_capture).where(
    _capture.c.url_digest.in_(sa.bindparam("digests", expanding=True)),
    # The index has these times of each digest.
    _capture.c.lookup_time.between(sa.bindparam("first"), sa.bindparam("last")),
    # Not the column itself: SQLite would look for each digest with each of the times.
    (_capture.c.lookup_time + 0).in_(sa.bindparam("times", expanding=True)),
)
_captures_created = sa.select(_capture).where(
    _capture.c.url_digest.in_(sa.bindparam("digests", expanding=True)),
    _capture.c.created_at.in_(sa.bindparam("times", expanding=True)),
)
_without_captures = (
    sa.select(_image.c.content_hash)
    .where(
        _image.c.content_hash > sa.bindparam("after"),
        ~sa.exists().where(_capture.c.content_hash == _image.c.content_hash),
    )
    .order_by(_image.c.content_hash)
    .limit(MAX_VALUES)
)


class WholeRows(OpenCatalog):
    """The queries of a catalog for whole rows.

    Attributes:
        max_page_rows: maximum number of captures of a page.
    """

    max_page_rows = 2000

    def reading(self) -> Connection:
        """Connect for reading only; the caller closes the connection."""
        return database.connect_for_reading(self._engine)

    @database_call
    def image_rows(self, content_hashes: Collection[str]) -> dict[str, Row]:
        """Return the rows of images, damaged or not, by their content hash.

        Where the last use is not known, it is the day since when it would be.
        """
        with database.connect_for_reading(self._engine) as connection:
            return find_images(connection, content_hashes)

    def capture_pages(self) -> Iterator[list[Row]]:
        """Yield the rows of all captures, in the order of their ids, in pages of a bounded size."""
        after = 0
        while rows := self._captures_after(after):
            yield rows
            after = rows[-1]["id"]

    @database_call
    def _captures_after(self, after: int) -> list[Row]:
        with database.connect_for_reading(self._engine) as connection:
            values = {"after": after, "limit": self.max_page_rows}
            sizes = connection.execute(_sizes_after, values).all()
            if not sizes:
                return []
            last = sizes[count_of_fitting(size for _, size in sizes) - 1][0]
            return _rows(connection, _captures_between, after=after, last=last)

    @database_call
    def captures_at(self, rows: Iterable[Row]) -> list[Row]:
        """Return the captures with the URLs or keys, and lookup times, of these rows, and more."""
        with database.connect_for_reading(self._engine) as connection:
            return find_captures_at(connection, rows)

    def images_without_captures(self) -> Iterator[list[str]]:
        """Yield the hashes of images without captures, as a rebuilt catalog has them, in pages."""
        after = ""
        while names := self._without_captures(after):
            yield names
            after = names[-1]

    @database_call
    def _without_captures(self, after: str) -> list[str]:
        with database.connect_for_reading(self._engine) as connection:
            return list(connection.scalars(_without_captures, {"after": after}))

    def use_pages(self) -> Iterator[list[Row]]:
        """Yield the rows of all uses, in the order of their numbers, in pages."""
        return self.table_pages(image_use)

    def table_pages(self, table: sa.Table) -> Iterator[list[Row]]:
        """Yield the rows of a table with one primary key, in the order of the key, in pages."""
        (key,) = table.primary_key.columns
        query = sa.select(table).order_by(key).limit(MAX_VALUES)
        page = self._table_rows(query)
        while page:
            yield page
            page = self._table_rows(query.where(key > page[-1][key.name]))

    @database_call
    def _table_rows(self, query: sa.Select[Any]) -> list[Row]:
        with database.connect_for_reading(self._engine) as connection:
            return _rows(connection, query)


def find_images(connection: Connection, content_hashes: Iterable[str]) -> dict[str, Row]:
    """Return the rows of images by their content hash; see `WholeRows.image_rows`."""
    return {
        row["content_hash"]: row
        for names in batches(content_hashes, MAX_VALUES)
        for row in _rows(connection, _find_images, hashes=names)
    }


def find_captures_at(connection: Connection, rows: Iterable[Row]) -> list[Row]:
    """Return the captures that have the URLs or keys, and lookup times, of these rows, and more."""
    found: list[Row] = []
    for some in batches(rows, MAX_VALUES):
        times = sorted({row["lookup_time"] for row in some})
        span = {"first": times[0], "last": times[-1]}
        found += _rows(connection, _captures_at, digests=_digests(some), times=times, **span)
    return found


def find_captures_created(connection: Connection, rows: Iterable[Row]) -> list[Row]:
    """Return those with the URLs or keys, and creation times, of these rows, and more."""
    found: list[Row] = []
    for some in batches(rows, MAX_VALUES):
        times = sorted({row["created_at"] for row in some})
        found += _rows(connection, _captures_created, digests=_digests(some), times=times)
    return found


def _digests(rows: Iterable[Row]) -> list[bytes]:
    found = set()
    for row in rows:
        found.add(bytes(row["url_digest"]))
        # A row of schema 3 that is not filled has the digest of its URL.
        if row["key"] is not None:
            found.add(digest(row["url"]))
    return sorted(found)


def _rows(connection: Connection, query: sa.Select[Any], **values: Any) -> list[Row]:
    result = connection.execute(query, values)
    names = tuple(result.keys())
    # Faster than `mappings`.
    return [dict(zip(names, row, strict=True)) for row in result]
