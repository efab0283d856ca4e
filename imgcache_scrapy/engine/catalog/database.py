"""How the catalog connects to SQLite or PostgreSQL, locks rows, and handles database errors."""

import functools
import sqlite3
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from threading import Lock
from typing import Any, ParamSpec, TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.engine.interfaces import DBAPIConnection

from imgcache_scrapy.core import wal
from imgcache_scrapy.core.errors import (
    ConfigurationError,
    ImgCacheError,
    ReadOnlyError,
    UnavailableError,
)
from imgcache_scrapy.core.forks import no_fork
from imgcache_scrapy.engine.catalog import sqlite
from imgcache_scrapy.engine.catalog.sqlite import BUSY_SECONDS, DatabaseUrl

P = ParamSpec("P")
T = TypeVar("T")

CONNECT_SECONDS = 5
"""Maximum time in seconds to connect to PostgreSQL."""

# PostgreSQL's code for a write in a read-only transaction, for example on a standby server.
_READ_ONLY_STATE = "25006"
_POSTGRESQL: dict[str, Any] = {
    # Otherwise the idle connections in the pool would fail after a restart of the server.
    "pool_pre_ping": True,
    "connect_args": {
        "connect_timeout": CONNECT_SECONDS,
        # Milliseconds until a connection is closed whose other end does not answer any more.
        "tcp_user_timeout": BUSY_SECONDS * 1000,
    },
}
_OPTIONS: dict[str, dict[str, Any]] = {
    "sqlite": {},
    "sqlite+pysqlite": {},
    "postgresql": _POSTGRESQL,
    "postgresql+psycopg": _POSTGRESQL,
}


def sqlite_url(path: Path) -> sa.URL:
    """Return the URL of a database in a file."""
    return sa.URL.create("sqlite", database=str(path))


def create_engine(database_url: DatabaseUrl) -> Engine:
    """Connect to the database of a catalog.

    Args:
        database_url: `sqlite:///path` or `postgresql+psycopg://…`.

    Returns:
        An engine whose `begin()` takes the write lock immediately in SQLite.

    Raises:
        ConfigurationError: the URL has another form, or its driver is not installed.
    """
    try:
        url = sa.make_url(database_url)
        with no_fork:  # It imports the driver.
            engine = sa.create_engine(url, **_OPTIONS[url.drivername])
    except (sa.exc.ArgumentError, ValueError, KeyError) as error:
        # Without the message of SQLAlchemy, which may quote the URL and its password.
        raise ConfigurationError(
            "the database URL must be sqlite:///path or postgresql+psycopg://user@host/database"
        ) from error
    except ImportError as error:
        raise ConfigurationError(
            f"the database's driver is not installed ({error.name}): "
            "pip install 'imgcache-scrapy[postgres]'"
        ) from error
    if engine.dialect.name == "sqlite":
        sa.event.listen(engine, "connect", sqlite.set_up)
        sa.event.listen(engine, "begin", _begin_immediate)
    else:
        sa.event.listen(engine, "connect", _set_up_postgresql)
    return engine


def connect_for_reading(engine: Engine) -> Connection:
    """Connect for reading only; in SQLite without a transaction, so that it waits for no writer."""
    return engine.connect().execution_options(imgcache_reading=True)


def use_wal(connection: Connection) -> None:
    """Switch a catalog in SQLite to write-ahead logging, so that readers wait for no writer."""
    driver_connection = connection.connection.driver_connection
    if isinstance(driver_connection, sqlite3.Connection):
        try:
            wal.use_wal(driver_connection, BUSY_SECONDS)
        except sqlite3.Error as error:
            raise sa.exc.OperationalError("PRAGMA journal_mode", None, error) from error


def parameter_mark(connection: Connection) -> str:
    """Return what stands for a parameter in SQL that goes to the driver as it is."""
    return "?" if connection.dialect.name == "sqlite" else "%s"


def write_lock(engine: Engine) -> AbstractContextManager[object]:
    """Return a lock for the write transactions of this process; it does nothing for PostgreSQL.

    SQLite allows one writer at a time. Other writers sleep and try again, and each sleep is longer
    than the one before. A thread that waits for this lock continues immediately.
    """
    return Lock() if engine.dialect.name == "sqlite" else nullcontext()


def lock(connection: Connection, content_hashes: Iterable[str]) -> None:
    """Lock these images against other writers until the transaction ends.

    In SQLite the transaction itself is the lock.
    """
    if connection.dialect.name == "postgresql":
        # Every transaction locks in the same order, which prevents deadlocks.
        numbers = sorted(int(each[:16], 16) - (1 << 63) for each in content_hashes)
        connection.execute(_lock_all, {"numbers": numbers})


def lock_schema(connection: Connection) -> None:
    """Lock the schema against changes by others until the transaction ends."""
    lock(connection, ["0" * 64])  # No image has this hash.


def wait_for_writers(connection: Connection, table: sa.Table) -> None:
    """Wait for open transactions that have read this table, and block new ones that read it.

    Call it with the table of the schema's number, which every write transaction reads first.
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
    function is called once more. This is safe: a transaction that was not committed changed
    nothing, and repeating a committed transaction changes nothing.

    Args:
        call: a function that may be called twice.
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
            raise _failure(error) from error

    return guarded


def is_common(error: Exception) -> bool:
    """Return whether an error concerns all images of a call, not only some of them.

    A value that the database refuses, and a damaged page, concern only some rows. A database that
    is down, full or locked fails for all, and each further call would wait as long.
    """
    if not isinstance(error, ImgCacheError):
        return False
    cause = error.__cause__
    shared = (sa.exc.OperationalError, sa.exc.InterfaceError)
    return not isinstance(cause, sa.exc.DBAPIError) or isinstance(cause, shared)


def _failure(error: Exception) -> UnavailableError | ReadOnlyError:
    cause = getattr(error, "orig", None) or error
    # Without the statement and the details, which may contain URLs.
    reason = str(cause).strip().split("\n", 1)[0]
    if sqlite.is_read_only_error(cause) or getattr(cause, "sqlstate", None) == _READ_ONLY_STATE:
        return ReadOnlyError(f"the catalog can only be read: {reason}")
    if sqlite.is_damage(cause):
        return UnavailableError(
            f"the catalog is damaged ({reason}): run `imgcache verify`, and `imgcache rebuild` to"
            " make a new catalog from the blobs"
        )
    return UnavailableError(f"the catalog failed: {reason}")


def _set_up_postgresql(connection: DBAPIConnection, _record: object) -> None:
    cursor = connection.cursor()
    cursor.execute(f"SET lock_timeout = '{BUSY_SECONDS}s'")
    # The default is that of hard disks: it makes it sort a history to find the newest capture.
    cursor.execute("SET random_page_cost = 1.1")
    cursor.close()
    connection.commit()


def _begin_immediate(connection: Connection) -> None:
    # Without IMMEDIATE, a transaction that reads first cannot wait for another writer: it fails.
    if not connection.get_execution_options().get("imgcache_reading"):
        connection.exec_driver_sql("BEGIN IMMEDIATE")
