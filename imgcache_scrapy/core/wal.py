"""Switch a SQLite database to write-ahead logging, which several processes may do at once."""

import sqlite3
import time
from collections.abc import Container

BUSY_CODES = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL}
"""The primary result codes of SQLite that say that another connection has a lock:
https://www.sqlite.org/rescode.html."""

_INTERVAL = 0.01


def use_wal(connection: sqlite3.Connection, max_seconds: float) -> None:
    """Switch to write-ahead logging; retry, because SQLite fails if two processes do it at once.

    Args:
        connection: the connection; it is in no transaction.
        max_seconds: the seconds after which it is not tried again. The timeout of the connection
            does not hold for this.

    Raises:
        sqlite3.Error: it is not possible.
    """
    if connection.execute("PRAGMA journal_mode").fetchone()[0] in {"wal", "memory"}:
        return
    deadline = time.monotonic() + max_seconds
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if not has_code(error, BUSY_CODES) or time.monotonic() > deadline:
                raise
            time.sleep(_INTERVAL)
        else:
            return


def has_code(error: BaseException, codes: Container[int]) -> bool:
    """Return whether an error of SQLite has one of these primary result codes."""
    code = getattr(error, "sqlite_errorcode", None)
    # The other bits tell more about the error.
    return code is not None and code & 0xFF in codes
