"""RareRows: whether a table has rows, for tables that are empty in most catalogs."""

import time

import sqlalchemy as sa
from sqlalchemy.engine import Engine

from imgcache_scrapy.engine.catalog import database

# The database is asked again after this time.
_SECONDS_BETWEEN_CHECKS = 0.1


class RareRows:
    """Tells whether a table has rows, with at most ten queries in a second.

    What another process inserts into an empty table is known a tenth of a second later.

    Args:
        engine: the connections of the catalog.
        table: the table.
    """

    def __init__(self, engine: Engine, table: sa.Table) -> None:
        self._engine = engine
        self._any = sa.select(sa.exists().select_from(table))
        self._exist = True
        self._checked_at = float("-inf")

    def exist(self) -> bool:
        """Return whether the table has rows."""
        if time.monotonic() > self._checked_at + _SECONDS_BETWEEN_CHECKS:
            with database.connect_for_reading(self._engine) as connection:
                self._exist = bool(connection.scalar(self._any))
            self._checked_at = time.monotonic()
        return self._exist

    def note_insert(self) -> None:
        """Note that this process has inserted a row."""
        self._exist = True
