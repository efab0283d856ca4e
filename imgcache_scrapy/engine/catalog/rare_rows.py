"""RareRows: which tables have rows, of those that are empty in most catalogs."""

import time
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Engine

from imgcache_scrapy.engine.catalog import database
from imgcache_scrapy.engine.catalog.tables import blocked, blocked_source, failure, latest_time

# The database is asked again after this time.
_SECONDS_BETWEEN_CHECKS = 0.1
_has_rows: list[sa.ColumnElement[Any]] = [
    sa.exists().select_from(table).label(table.name) for table in (blocked, blocked_source, failure)
]
rarities: sa.Select[Any] = sa.select(*_has_rows, latest_time.label("latest_time"))
"""Selects whether these tables have rows, by their names, and the latest lookup time.

One query for what most catalogs do not have replaces a query for each.
"""


class RareRows:
    """Tells whether a table has rows, with at most ten queries in a second for all tables.

    What another process inserts into an empty table is known a tenth of a second later.

    Args:
        engine: the connections of the catalog.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._found: dict[str, bool] = {}
        self._checked_at = float("-inf")

    def exist(self, table: sa.Table) -> bool:
        """Return whether a table has rows."""
        if time.monotonic() > self._checked_at + _SECONDS_BETWEEN_CHECKS:
            with database.connect_for_reading(self._engine) as connection:
                self._found = dict(connection.execute(rarities).mappings().one())
            self._checked_at = time.monotonic()
        return bool(self._found[table.name])

    def note_insert(self, table: sa.Table) -> None:
        """Note that this process has inserted a row."""
        self._found[table.name] = True
