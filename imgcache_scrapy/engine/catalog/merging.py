"""Merge rows of another catalog into a catalog: images, captures, and the lists beside them."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from imgcache_scrapy.engine.catalog import database
from imgcache_scrapy.engine.catalog.capture_changes import (
    CaptureChanges,
    Find,
    capture_changes,
)
from imgcache_scrapy.engine.catalog.catalog import Catalog
from imgcache_scrapy.engine.catalog.database import database_call
from imgcache_scrapy.engine.catalog.rows import now
from imgcache_scrapy.engine.catalog.tables import (
    audit,
    blocked,
    blocked_source,
    failure,
    image,
    image_use,
)
from imgcache_scrapy.engine.catalog.transaction import WriteTransaction
from imgcache_scrapy.engine.catalog.use_rows import RENEWED_BY_USE
from imgcache_scrapy.engine.catalog.whole_rows import (
    Row,
    find_captures_at,
    find_captures_created,
    find_images,
)

BLOCKS = (blocked, blocked_source)
"""The tables of what is blocked."""
OTHER_LISTS = (failure, audit)
"""The other tables beside images, captures and uses."""

_DECODED = ("width", "height", "perceptual_hash", "decode_error")
_BANDS = tuple(name for name in image.c.keys() if name.startswith("band"))  # noqa: SIM118
_insert_image = image.insert()


def _insert(table: sa.Table) -> sa.TextClause:
    """Return the SQL that inserts rows, but none that another process has inserted meanwhile."""
    names = [column.name for column in table.c if column.name != "id"]
    columns, values = (", ".join(map(form.format, names)) for form in ('"{}"', ":{}"))
    return sa.text(
        f"INSERT INTO {table.name} ({columns}) VALUES ({values}) ON CONFLICT DO NOTHING"  # noqa: S608
    )


_inserts = {table.name: _insert(table) for table in (*BLOCKS, *OTHER_LISTS, image_use)}


class _Rule(NamedTuple):
    """What replaces a row that is there already.

    Attributes:
        key: the column that is the same in both.
        replaces: returns whether the first row replaces the second one.
        columns: the columns that are replaced.
    """

    key: sa.Column[Any]
    replaces: Callable[[Row, Row], bool]
    columns: tuple[str, ...]


def _is_new_reason(row: Row, there: Row) -> bool:
    # Blocked at another time, it was not copied from there.
    return bool(row["created_at"] == there["created_at"] and row["reason"] != there["reason"])


_RULES = {
    failure.name: _Rule(
        failure.c.digest,
        lambda row, there: row["failed_at"] > there["failed_at"],
        ("reason", "http_status", "failed_at", "expires_at"),
    ),
    blocked.name: _Rule(blocked.c.content_hash, _is_new_reason, ("reason",)),
    blocked_source.name: _Rule(blocked_source.c.digest, _is_new_reason, ("reason",)),
    image_use.name: _Rule(
        image_use.c.digest, lambda row, there: row["used_at"] > there["used_at"], RENEWED_BY_USE
    ),
}


def plan_captures(connection: Connection, rows: Sequence[Row], source_at: Find) -> CaptureChanges:
    """Decide what to write of some captures; see `capture_changes`.

    Args:
        connection: to the copy.
        rows: captures of the source, in the order of their ids.
        source_at: finds the captures of the source with the keys and lookup times of rows.
    """
    return capture_changes(
        rows,
        copy_at=lambda some: find_captures_at(connection, some),
        copy_created=lambda some: find_captures_created(connection, some),
        source_at=source_at,
    )


def merge_images(
    transaction: WriteTransaction, rows: Mapping[str, Row], whole: Collection[str]
) -> None:
    """Write rows of images.

    Args:
        transaction: has locked the images.
        rows: the rows of the source, by content hash.
        whole: the hashes of those whose blobs have just been written; a new image without its blob
            is damaged.
    """
    connection = transaction.connection
    known = find_images(connection, rows)
    new = [{**row, "damaged": name not in whole} for name, row in rows.items() if name not in known]
    if new:
        connection.execute(_insert_image, new)
    for name, there in known.items():
        changes = image_changes(rows[name], there, is_whole=name in whole)
        if changes:
            its_row = image.update().where(image.c.content_hash == name)
            connection.execute(its_row.values(changes))


def image_changes(row: Row, there: Row, *, is_whole: bool) -> dict[str, Any]:
    """Return what a copy does not know yet of an image that it has.

    Args:
        row: the row of the source.
        there: the row of the copy.
        is_whole: whether its blob has just been written.
    """
    changes: dict[str, Any] = {"damaged": False} if is_whole and there["damaged"] else {}
    if (row["last_used"] or 0) > (there["last_used"] or 0):
        changes["last_used"] = row["last_used"]
    if row["decode_attempts"] > there["decode_attempts"]:
        changes["decode_attempts"] = row["decode_attempts"]
    if all(there[name] is None for name in _DECODED) and any(
        row[name] is not None for name in _DECODED
    ):
        changes |= {name: row[name] for name in (*_DECODED, *_BANDS)}
    return changes


def merge_tables(source: Catalog, catalog: Catalog, tables: Iterable[sa.Table]) -> None:
    """Write the rows of tables.

    Args:
        source: the catalog to copy from.
        catalog: the copy.
        tables: some of `BLOCKS` and `OTHER_LISTS`.
    """
    for table in tables:
        for rows in source.table_pages(table):
            _merge_page(catalog, table, rows)


def merge_uses(catalog: Catalog, rows: Sequence[Row]) -> None:
    """Write uses of images that the copy has.

    Args:
        catalog: the copy.
        rows: rows of the source, in the order of their numbers.
    """
    _merge_page(catalog, image_use, rows)


@database_call
def _merge_page(catalog: Catalog, table: sa.Table, rows: Sequence[Row]) -> None:
    with catalog.reading() as connection:
        new, changed = _changes(connection, table, rows)
    if not (new or changed):
        return
    has_images = table in {blocked, image_use}
    names = {row["content_hash"] for row in (*new, *changed)} if has_images else ()
    with catalog.exclusive(names) as transaction:
        if table in {blocked_source, audit}:
            # Stores that have read what is blocked end first. Of two copies, one inserts an act.
            database.wait_for_writers(transaction.connection, table)
        new, changed = _changes(transaction.connection, table, rows)
        if new:
            transaction.connection.execute(_inserts[table.name], new)
        for row in changed:
            _update(transaction.connection, table, row)


def _changes(
    connection: Connection, table: sa.Table, rows: Sequence[Row]
) -> tuple[list[dict[str, Any]], list[Row]]:
    """Return the rows that a table does not have, and those that it has as they were before."""
    if table is audit:
        return _new_acts(connection, rows), []
    if table is failure:
        at = now()
        rows = [row for row in rows if row["expires_at"] > at]
    if table is image_use:
        known = find_images(connection, {row["content_hash"] for row in rows})
        rows = [_without_id(row) for row in rows if row["content_hash"] in known]
    key, replaces, _ = _RULES[table.name]
    query = sa.select(table).where(key.in_([row[key.name] for row in rows]))
    there = {row[key.name]: dict(row) for row in connection.execute(query).mappings()}
    new = [dict(row) for row in rows if row[key.name] not in there]
    old = [row for row in rows if row[key.name] in there]
    return new, [row for row in old if replaces(row, there[row[key.name]])]


def _new_acts(connection: Connection, rows: Iterable[Row]) -> list[dict[str, Any]]:
    """Return the acts that an audit list does not have; the numbers of its rows are its own."""
    acts = [_without_id(row) for row in rows]
    columns = [column for column in audit.c if column is not audit.c.id]
    times = sorted({act["done_at"] for act in acts})
    query = sa.select(*columns).where(audit.c.done_at.in_(times))
    there = [dict(row) for row in connection.execute(query).mappings()]
    return [act for act in acts if act not in there]


def _without_id(row: Row) -> dict[str, Any]:
    return {name: row[name] for name in row if name != "id"}


def _update(connection: Connection, table: sa.Table, row: Row) -> None:
    key, _, columns = _RULES[table.name]
    values = {name: row[name] for name in columns}
    connection.execute(table.update().where(key == row[key.name]).values(values))
