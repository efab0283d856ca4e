"""Fill the keys and hosts of captures that versions without keys recorded, batch by batch."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from imgcache_scrapy.core.errors import InvalidRequestError
from imgcache_scrapy.core.keys import cache_key, has_user
from imgcache_scrapy.core.urls import host_of
from imgcache_scrapy.engine.catalog.rows import digest
from imgcache_scrapy.engine.catalog.tables import capture as _capture
from imgcache_scrapy.engine.catalog.tables import has_host

_BATCH_SIZE = 1000
_FILLED = {"its_host": "host", "its_key": "key", "its_digest": "url_digest"}
_next_rows = (
    sa.select(_capture.c.id, _capture.c.url, _capture.c.key)
    .where(_capture.c.id > sa.bindparam("after"), ~has_host)
    .order_by(_capture.c.id)
    .limit(_BATCH_SIZE)
    # In PostgreSQL, waiting for a store that waits for another one of these rows is a deadlock.
    .with_for_update(skip_locked=True)
)
_row = _capture.update().where(_capture.c.id == sa.bindparam("its_id"), ~has_host)
_set_host = _row.values(host=sa.bindparam("its_host"))
# Apart, because each change of the digest changes its index.
_set_host_and_key = _row.values(
    host=sa.bindparam("its_host"),
    key=sa.bindparam("its_key"),
    url_digest=sa.bindparam("its_digest"),
)
count_unfilled = sa.select(sa.func.count()).select_from(_capture).where(~has_host)
"""Counts the captures that are not filled."""


class Filled(NamedTuple):
    """The result of one batch.

    Attributes:
        captures: the number of captures that were filled.
        last: the id of the last one; None if there was none.
    """

    captures: int
    last: int | None


def fill_batch(connection: Connection, after: int) -> Filled:
    """Fill the next captures, which have the default key of their URL from then on.

    Their times and ids stay, so that the newest capture of a key is still the newest one.

    Args:
        connection: in a write transaction.
        after: the id after which the batch begins.
    """
    rows = connection.execute(_next_rows, {"after": after}).all()
    values = [_values_of(row.id, row.url, row.key) for row in rows]
    for statement, changed in (
        (_set_host, [each for each in values if "its_key" not in each]),
        (_set_host_and_key, [each for each in values if "its_key" in each]),
    ):
        if changed:
            connection.execute(statement, changed)
    return Filled(len(rows), rows[-1].id if rows else None)


def filled(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the row of a capture as filling leaves it."""
    if row["host"] is not None:
        return row
    values = _values_of(row["id"], row["url"], row["key"])
    return {**row, **{column: values[name] for name, column in _FILLED.items() if name in values}}


def _values_of(its_id: int, url: str, key: str | None) -> dict[str, Any]:
    values = {"its_id": its_id, "its_host": host_of(url)}
    its_key = key or _default_key(url)
    if key is not None or its_key == url:
        return values
    return {**values, "its_key": its_key, "its_digest": digest(its_key)}


def _default_key(url: str) -> str:
    # What a user and a password gave is private: nobody may find it by the public URL.
    if has_user(url):
        return url
    try:
        return cache_key(url)
    except InvalidRequestError:  # An older version accepted it.
        return url
