"""Read and write whole rows of catalogs in SQLite, to rebuild a catalog or to back it up."""

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from imgcache_scrapy.core.batches import batches
from imgcache_scrapy.core.entry import is_content_hash
from imgcache_scrapy.core.times import microseconds
from imgcache_scrapy.engine.catalog import database, url_index
from imgcache_scrapy.engine.catalog.catalog import Catalog
from imgcache_scrapy.engine.catalog.database import database_call
from imgcache_scrapy.engine.catalog.rows import digest
from imgcache_scrapy.engine.catalog.tables import (
    audit,
    blocked,
    blocked_source,
    failure,
    image_use,
)
from imgcache_scrapy.engine.catalog.tables import capture as _capture
from imgcache_scrapy.engine.catalog.tables import image as _image
from imgcache_scrapy.engine.catalog.tables import schema as _schema
from imgcache_scrapy.engine.catalog.whole_rows import Row

MORE_TABLES = (failure, blocked, blocked_source, audit, image_use)
"""The tables beside images and captures whose rows a new catalog gets, too."""

_BATCH_SIZE = 500
# Other times of a row are no dates.
_FIRST = microseconds(datetime.min.replace(tzinfo=UTC))
_LAST = microseconds(datetime.max.replace(tzinfo=UTC))
_insert_capture = _capture.insert().prefix_with("OR IGNORE")
_ABSENT: Row = {column.name: None for column in _capture.columns}
_OPTIONAL = ("original_filename", "key", "host", "headers", "final_url", "accept")


class RestoringCatalog(Catalog):
    """A catalog in SQLite, for the only process that uses it."""

    def capture_rows(self) -> Iterator[Row]:
        """Yield the rows of all captures, the oldest first."""
        for rows in self.capture_pages():
            yield from rows

    @database_call
    def add_images(self, rows: Iterable[Row]) -> None:
        """Insert rows of images."""
        with self._engine.begin() as connection:
            for row in rows:
                connection.execute(_image.insert(), dict(row))

    def add_captures(self, rows: Iterable[Row]) -> None:
        """Insert the rows whose image is there; a row with the id of another one is left out."""
        for batch in batches(rows, _BATCH_SIZE):
            self._add_captures(batch)

    def add_rows(self, table: sa.Table, rows: Iterable[Row]) -> None:
        """Insert rows of one of `MORE_TABLES`; those that are there already are left out.

        The uses of images without a row are left out, too.
        """
        insert = table.insert().prefix_with("OR IGNORE")
        for batch in batches(rows, _BATCH_SIZE):
            self._add_rows(insert, self._with_image(batch) if table is image_use else batch)

    def _with_image(self, rows: Sequence[Row]) -> list[Row]:
        known = self.known({row["content_hash"] for row in rows})
        return [row for row in rows if row["content_hash"] in known]

    @database_call
    def _add_rows(self, insert: sa.Insert, rows: list[Row]) -> None:
        if rows:
            with self._engine.begin() as connection:
                connection.execute(insert, [dict(row) for row in rows])

    @database_call
    def remove_images(self, content_hashes: Iterable[str]) -> None:
        """Remove the rows of images and of their captures."""
        with self._engine.begin() as connection:
            for name in content_hashes:
                for table in (image_use, _capture, _image):
                    connection.execute(table.delete().where(table.c.content_hash == name))

    @database_call
    def finish(self, cache_id: str) -> None:
        """Write the id of the cache, and index all URLs."""
        with self._engine.begin() as connection:
            connection.execute(_schema.update().values(cache_id=cache_id, adopts_blobs=False))
            url_index.extend(connection)

    @database_call
    def count_without_url(self) -> int:
        """Return the number of sound images that have no capture."""
        query = sa.select(sa.func.count()).where(
            ~_image.c.damaged,
            ~sa.exists().where(_capture.c.content_hash == _image.c.content_hash),
        )
        with database.connect_for_reading(self._engine) as connection:
            return int(connection.scalar(query.select_from(_image)) or 0)

    @database_call
    def _add_captures(self, rows: list[Row]) -> None:
        kept = [dict(row) for row in self._with_image(rows)]
        if kept:
            with self._engine.begin() as connection:
                connection.execute(_insert_capture, kept)


class ReadableRows:
    """The rows of one of `MORE_TABLES` in a catalog that may be damaged, as far as it can be read.

    Args:
        file: the file of the catalog; it is not changed.
        table: the table; catalogs of older versions do not have it.

    Attributes:
        are_all: after an iteration, whether every row could be read.
    """

    def __init__(self, file: Path, table: sa.Table) -> None:
        self._file = file.absolute()
        self._table = table
        self.are_all = False

    def __iter__(self) -> Iterator[Row]:
        # From both ends: in the middle there may be a damaged page.
        for order in ("ASC", "DESC"):
            self.are_all = order == "ASC"
            try:
                yield from self._rows(order)
            except sqlite3.Error:
                self.are_all = False
            else:
                return

    def _rows(self, order: str) -> Iterator[Row]:
        query = f"SELECT * FROM {self._table.name} ORDER BY rowid {order}"  # noqa: S608
        with closing(sqlite3.connect(f"{self._file.as_uri()}?mode=ro", uri=True)) as database:
            database.row_factory = sqlite3.Row
            for row in map(dict, database.execute(query)):
                if all(_fits(column, row.get(column.name)) for column in self._table.columns):
                    yield row
                else:
                    self.are_all = False


def _fits(column: sa.Column[Any], value: object) -> bool:
    if value is None:
        return bool(column.nullable)
    return isinstance(value, column.type.python_type)


class ReadableCaptures:
    """The captures of a damaged catalog, as far as they can be read: from both ends.

    Args:
        file: the file of the catalog; it is not changed.

    Attributes:
        are_all: after an iteration, whether every row could be read.
    """

    def __init__(self, file: Path) -> None:
        self._file = file.absolute()
        self.are_all = False

    def cache_id(self) -> str | None:
        """Return the id of the cache; None if it cannot be read."""
        try:
            with closing(sqlite3.connect(f"{self._file.as_uri()}?mode=ro", uri=True)) as database:
                row = database.execute("SELECT cache_id FROM imgcache_schema").fetchone()
        except sqlite3.Error:
            return None
        return row[0] if row and isinstance(row[0], str) else None

    def __iter__(self) -> Iterator[Row]:
        self.are_all = True
        try:
            with closing(sqlite3.connect(f"{self._file.as_uri()}?mode=ro", uri=True)) as database:
                database.row_factory = sqlite3.Row
                yield from self._sound(self._rows(database))
        except sqlite3.Error:
            self.are_all = False

    def _rows(self, database: sqlite3.Connection) -> Iterator[Any]:
        last = 0
        try:
            # One scan: after a page in a wrong place, another one would begin in a wrong place.
            for row in database.execute("SELECT * FROM capture ORDER BY id"):
                self.are_all &= row["id"] > last
                last = row["id"]
                yield row
        except sqlite3.Error:
            self.are_all = False
            for row in database.execute("SELECT * FROM capture ORDER BY id DESC"):
                if row["id"] == last:
                    return
                yield row

    def _sound(self, rows: Iterable[Any]) -> Iterator[Row]:
        for row in rows:
            # A catalog of an older version has fewer columns.
            if is_sound(row := {**_ABSENT, **dict(row)}):
                yield row
            else:
                self.are_all = False


def is_sound(row: Row) -> bool:
    """Return whether the values of a capture can be true."""
    texts = all(isinstance(row[name], str) for name in ("url", "bucket", "client_name"))
    times = all(
        isinstance(row[name], int) and _FIRST <= row[name] <= _LAST
        for name in ("lookup_time", "created_at")
    )
    optional = all(isinstance(row[name], str | None) for name in _OPTIONAL)
    return (
        texts
        and times
        and optional
        and _is_object(row["headers"])
        and is_content_hash(row["content_hash"])
        and digest(row["key"] or row["url"]) == row["url_digest"]
    )


def _is_object(headers: str | None) -> bool:
    try:
        return headers is None or isinstance(json.loads(headers), dict)
    except (ValueError, RecursionError):
        return False
