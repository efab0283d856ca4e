"""The order of captures in a list, newest first, and the positions in it."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from imgcache_scrapy.engine.catalog.rows import now
from imgcache_scrapy.engine.catalog.tables import capture, latest_time, newest_first, seen_at

_latest_time = sa.select(latest_time)

Columns = tuple[sa.ColumnElement[Any], ...]
"""Expressions of SQL."""


def age_and_order(connection: Connection) -> tuple[Columns, Columns]:
    """Return the SQL for the time and the id of captures, and that for the newest first."""
    at = now()
    # Only the order of the column itself has an index. Times after `at` are very rare.
    if (connection.scalar(_latest_time) or 0) <= at:
        return (capture.c.lookup_time, capture.c.id), newest_first
    age = (seen_at(at).label("time"), capture.c.id)
    return age, tuple(value.desc() for value in age)


def age_of(position: str) -> tuple[int, int]:
    """Return the time and the id of a position, which is both with `_` between them."""
    time, its_id = position.split("_")
    return int(time), int(its_id)
