"""Create new catalogs quickly: by the statements that the migrations ran for an earlier one."""

import re
from typing import Any
from uuid import uuid4

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from imgcache_scrapy.engine.catalog import database, migrations
from imgcache_scrapy.engine.catalog.schema import open_schema

_upgrade = migrations.upgrade
_READING = ("SELECT", "PRAGMA")
_CACHE_ID = re.compile(r"[0-9a-f]{32}")
# The statements with their parameters, by the name of the database's dialect.
_recorded: dict[str, list[tuple[str, Any]]] = {}


def record_migrations() -> None:
    """Let this process run the migrations for its first new catalog, and then their statements.

    The migrations still upgrade old catalogs.
    """
    migrations.upgrade = _upgrade_or_repeat


def run_migrations() -> None:
    """Let this process run the migrations for each new catalog, as the package does."""
    migrations.upgrade = _upgrade


def record_for_sqlite() -> None:
    """Record the statements for SQLite, so that forks of this process have them."""
    record_migrations()
    engine = database.create_engine("sqlite://")
    open_schema(engine, upgrade=True)
    engine.dispose()


def _upgrade_or_repeat(connection: Connection, number: int | None) -> None:
    statements = _recorded.get(connection.dialect.name)
    if number is not None:
        _upgrade(connection, number)
    elif statements is None:
        _record(connection)
    else:
        for statement, parameters in statements:
            connection.exec_driver_sql(statement, _with_new_id(parameters))


def _record(connection: Connection) -> None:
    statements = []

    def add(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if not statement.lstrip().startswith(_READING):
            statements.append((statement, parameters))

    sa.event.listen(connection, "before_cursor_execute", add)
    try:
        _upgrade(connection, None)
    finally:
        sa.event.remove(connection, "before_cursor_execute", add)
    _recorded[connection.dialect.name] = statements


def _with_new_id(parameters: Any) -> Any:
    """Replace the id of the cache, which is random."""
    if isinstance(parameters, dict):
        return {name: _new_if_id(value) for name, value in parameters.items()}
    return tuple(map(_new_if_id, parameters))


def _new_if_id(value: Any) -> Any:
    return uuid4().hex if isinstance(value, str) and _CACHE_ID.fullmatch(value) else value
