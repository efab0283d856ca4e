"""SqliteFile: how the catalog opens its file in SQLite, to write or only to read it."""

import os
import sqlite3
from pathlib import Path
from typing import Any, Self

import sqlalchemy as sa
from sqlalchemy.engine import Engine

from imgcache_scrapy.core.errors import ConfigurationError, ReadOnlyError, UnavailableError
from imgcache_scrapy.core.wal import BUSY_CODES, has_code

DatabaseUrl = str | sa.URL
"""The address of a database, as SQLAlchemy takes it."""

BUSY_SECONDS = 30
"""Maximum time in seconds that a write waits for another write."""

# The primary result codes of SQLite: https://www.sqlite.org/rescode.html
_READ_ONLY = {sqlite3.SQLITE_READONLY}
_CANNOT_WRITE = {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM}
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_UNREADABLE = {*_DAMAGED, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN}


class NoCatalogError(Exception):
    """The cause of an error: there is no catalog, and none may be created."""


class SqliteFile:
    """The file of a catalog, watched while it is open.

    Where the file can only be read, connections open it for reading. A file that was closed
    cleanly has no write-ahead log beside it, and SQLite can read it without writing anything.

    Args:
        path: the file.
        engine: connects to the file; it has no connection yet.

    Attributes:
        path: the file.
        is_read_only: whether the file can only be read.
    """

    def __init__(self, path: Path, engine: Engine) -> None:
        self.path = path.absolute()
        self.is_read_only = False
        self._may_create = True
        self._engine = engine
        self._identity: tuple[int, int] | None = None
        sa.event.listen(engine, "do_connect", self._choose_mode)
        sa.event.listen(engine, "checkout", self._replace_outdated)

    @classmethod
    def of(cls, engine: Engine) -> Self | None:
        """Return the file to which an engine connects; None for other databases."""
        path = path_of(engine.url)
        return None if path is None else cls(path, engine)

    def open(self, *, create: bool) -> None:
        """Find out whether the file can be written.

        Args:
            create: whether to create the file if it does not exist.

        Raises:
            ConfigurationError: the file does not exist, and `create` is False.
            ReadOnlyError: the file cannot be created.
            UnavailableError: it can only be read, and not without a folder that can be written.
            sqlalchemy.exc.DBAPIError: the file cannot be opened for another reason.
        """
        self._may_create = create
        if not self.path.exists():
            if not create:
                message = f"there is no cache: {self.path} does not exist"
                raise ConfigurationError(message) from NoCatalogError()
            if self.path.parent.is_dir() and not os.access(self.path.parent, os.W_OK):
                raise ReadOnlyError("there is no cache, and none can be created in its folder")
        elif not os.access(self.path, os.W_OK):
            self.is_read_only = True
        try:
            self._connect()
        except sa.exc.DBAPIError as error:
            if not _has_code(error, _CANNOT_WRITE) or os.access(self.path.parent, os.W_OK):
                raise
            self._open_read_only(error)

    def remember(self) -> None:
        """Remember which file is open, for `check_in_place`."""
        self._identity = identity_of(self.path)

    def check_in_place(self) -> None:
        """Check that the file is still the one that was opened.

        What is written into a removed file is lost, and another file may be another catalog.

        Raises:
            UnavailableError: the file was removed or replaced.
        """
        if self._identity is not None and self._identity != identity_of(self.path):
            raise UnavailableError(
                "the catalog's file was removed or replaced while this process used it: "
                "start the process again"
            )

    def _open_read_only(self, error: Exception) -> None:
        was_read_only, self.is_read_only = self.is_read_only, True
        if not was_read_only:
            try:
                self._connect()
            except sa.exc.DBAPIError as second:
                error = second
            else:
                return
        if self._has_log():
            raise UnavailableError(
                f"the catalog can only be read, but its last changes are still in "
                f"{self._log.name}: open the cache once where its folder can be written"
            ) from error
        raise error

    def _connect(self) -> None:
        with self._engine.connect().execution_options(imgcache_reading=True):
            pass

    @property
    def _log(self) -> Path:
        return self.path.with_name(f"{self.path.name}-wal")

    def _has_log(self) -> bool:
        # A writer that starts creates an empty log, and its index only afterwards.
        try:
            return self._log.stat().st_size > 0
        except FileNotFoundError:
            return False

    def _state(self) -> tuple[object, ...]:
        """Return what changes when another program writes the file."""
        if self._has_log():
            return (True,)
        found = self.path.stat()
        return False, found.st_ino, found.st_size, found.st_mtime_ns

    def _choose_mode(
        self, _dialect: object, record: Any, arguments: list[Any], options: dict[str, Any]
    ) -> None:
        if not self.is_read_only:
            mode = "rwc" if self._may_create else "rw"
        else:
            record.info["state"] = state = self._state()
            # Without a log there is no writer, and nothing that only the log has.
            mode = "ro" if state == (True,) else "ro&immutable=1"
        arguments[0] = f"{self.path.as_uri()}?mode={mode}"
        options["uri"] = True

    def _replace_outdated(self, _connection: object, record: Any, _proxy: object) -> None:
        """Connect again if another program has written a file that is opened as immutable."""
        if "state" in record.info and record.info["state"] != self._state():
            raise sa.exc.DisconnectionError


def path_of(database_url: DatabaseUrl) -> Path | None:
    """Return the path of the file of a database in SQLite; None for any other address."""
    try:
        url = sa.make_url(database_url)
    except (sa.exc.ArgumentError, ValueError):
        return None
    name = url.database if url.get_backend_name() == "sqlite" else None
    return Path(name) if name and name != ":memory:" and not name.startswith("file:") else None


def identity_of(path: Path) -> tuple[int, int] | None:
    """Return the numbers that identify a file, whatever its name; None if there is no file."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def set_up(connection: sqlite3.Connection, _record: object) -> None:
    """Set up a new connection to SQLite."""
    connection.isolation_level = None
    connection.execute(f"PRAGMA busy_timeout={BUSY_SECONDS * 1000}")
    # With NORMAL, a power failure would lose images that were reported as stored.
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("SELECT 1 FROM sqlite_master LIMIT 1")


def is_read_only_error(error: BaseException) -> bool:
    """Return whether SQLite refused to write, because the file can only be read."""
    return _has_code(error, _READ_ONLY)


def is_damage(error: BaseException) -> bool:
    """Return whether SQLite found that the file is damaged, or is not a database."""
    return _has_code(error, _DAMAGED)


def is_unreadable(error: BaseException | None) -> bool:
    """Return whether SQLite could not read a file, or found that it is damaged."""
    return error is not None and _has_code(error, _UNREADABLE)


def is_busy(error: BaseException) -> bool:
    """Return whether SQLite waited too long for a lock of another program."""
    return _has_code(error, BUSY_CODES)


def _has_code(error: BaseException, codes: set[int]) -> bool:
    # SQLAlchemy wraps the error of the driver.
    return has_code(getattr(error, "orig", error), codes)
