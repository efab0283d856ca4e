"""The database of a catalog, SQLite or PostgreSQL: how it is connected, locked, and called."""

import functools
import sqlite3
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from threading import Lock
from typing import Any, ParamSpec, TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.engine.interfaces import DBAPIConnection

from imgcache_scrapy.core.errors import ConfigurationError, UnavailableError

P = ParamSpec("P")
T = TypeVar("T")

BUSY_SECONDS = 30
"""So long a write waits for another one, at most."""

CONNECT_SECONDS = 5
_POSTGRESQL: dict[str, Any] = {
    # Of an idle connection nobody hears that the server went; a restart would fail many calls.
    "pool_pre_ping": True,
    "connect_args": {
        "connect_timeout": CONNECT_SECONDS,
        # Milliseconds until a host that went without a word is given up.
        "tcp_user_timeout": BUSY_SECONDS * 1000,
    },
}


def create_engine(database_url: str | sa.URL) -> Engine:
    """Connect to the database of a catalog.

    Args:
        database_url: `sqlite:///path` or `postgresql+psycopg://…`.

    Returns:
        An engine whose `begin()` takes the right to write at once.

    Raises:
        ConfigurationError: it is no such URL, or its driver is not installed.
    """
    try:
        url = sa.make_url(database_url)
        options = _POSTGRESQL if url.get_backend_name() == "postgresql" else {}
        engine = sa.create_engine(url, **options)
    except (sa.exc.ArgumentError, ValueError) as error:
        # Not what SQLAlchemy says, which may quote the URL and the password in it.
        raise ConfigurationError(
            "the database URL must be sqlite:///path or postgresql+psycopg://user@host/database"
        ) from error
    except ImportError as error:
        raise ConfigurationError(
            f"the database's driver is not installed ({error.name}): "
            "pip install 'imgcache-scrapy[postgres]'"
        ) from error
    if engine.dialect.name == "sqlite":
        sa.event.listen(engine, "connect", _set_up_sqlite)
        sa.event.listen(engine, "begin", _begin_immediate)
    elif engine.dialect.name == "postgresql":
        sa.event.listen(engine, "connect", _set_up_postgresql)
    else:
        raise ConfigurationError(f"no catalog can be kept in {engine.dialect.name}")
    return engine


def reading(engine: Engine) -> Connection:
    """Connect for reading alone: in SQLite without a transaction, so that no writer is met."""
    return engine.connect().execution_options(imgcache_reading=True)


def queue_of_writers(engine: Engine) -> AbstractContextManager[object]:
    """Give what a write transaction of this process is opened in.

    SQLite has one writer at a time, and lets the others try again after ever longer sleeps.
    """
    return Lock() if engine.dialect.name == "sqlite" else nullcontext()


def lock(connection: Connection, content_hashes: Iterable[str]) -> None:
    """Keep others from writing these images until the transaction ends."""
    if connection.dialect.name == "postgresql":
        # In one order for all, so that no two wait for each other.
        numbers = sorted(int(each[:16], 16) - (1 << 63) for each in content_hashes)
        connection.execute(_lock_all, {"numbers": numbers})


def lock_schema(connection: Connection) -> None:
    """Keep others from changing the schema until the transaction ends; in SQLite nobody can."""
    lock(connection, ["0" * 64])


def wait_for_writers(connection: Connection, table: sa.Table) -> None:
    """Wait until no transaction that has read this table is open, and let no other one read it.

    Every write transaction reads the table of the schema's number first.
    """
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"LOCK TABLE {table.name} IN ACCESS EXCLUSIVE MODE")


_lock_all = sa.text(
    "SELECT count(pg_advisory_xact_lock(number))"
    " FROM unnest(CAST(:numbers AS bigint[])) AS each(number)"
)


def database_call(call: Callable[P, T]) -> Callable[P, T]:
    """Make a function raise `UnavailableError` when the database fails.

    If the connection died during the call, for example because the database was restarted, the
    function is called once more. That is safe: a transaction that was not committed left nothing,
    and repeating a committed one changes nothing.

    Args:
        call: a function whose whole work with the database may be repeated.
    """

    @functools.wraps(call)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            try:
                return call(*args, **kwargs)
            except sa.exc.DBAPIError as error:
                if not error.connection_invalidated:
                    raise
                return call(*args, **kwargs)
        except (sa.exc.DBAPIError, sa.exc.TimeoutError) as error:
            # Not the statement, nor the details: they may hold URLs.
            reason = str(getattr(error, "orig", error)).strip().split("\n", 1)[0]
            raise UnavailableError(f"the catalog failed: {reason}") from error

    return guarded


def _set_up_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None
    connection.execute(f"PRAGMA busy_timeout={BUSY_SECONDS * 1000}")
    _use_wal(connection)
    # NORMAL loses acknowledged images when the power goes.
    connection.execute("PRAGMA synchronous=FULL")


def _set_up_postgresql(connection: DBAPIConnection, _record: object) -> None:
    cursor = connection.cursor()
    cursor.execute(f"SET lock_timeout = '{BUSY_SECONDS}s'")
    cursor.close()
    connection.commit()


def _use_wal(connection: sqlite3.Connection) -> None:
    """Switch to write-ahead logging; SQLite does not wait for others that do it at once."""
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return


def _begin_immediate(connection: Connection) -> None:
    # A transaction that reads first and writes later fails at once where another one writes.
    if not connection.get_execution_options().get("imgcache_reading"):
        connection.exec_driver_sql("BEGIN IMMEDIATE")
