"""Close the connections to databases before a fork, because they cannot be used after it.

A forked process has a copy of what SQLite remembers about the locks of its parent. While the parent
has a connection, the new process would take these locks for its own, and the parent could remove
the journal into which the new process writes. See "How To Corrupt An SQLite Database File",
section 2.6: https://www.sqlite.org/howtocorrupt.html

A thread that opens or closes a connection holds a lock inside of SQLite. If the process forked at
that moment, the new process would wait for this lock for ever.
"""

import sqlite3
import time
from functools import partial
from pathlib import Path
from threading import Lock, RLock
from typing import Any, cast
from weakref import WeakSet

import sqlalchemy as sa
from sqlalchemy.engine import Engine
from sqlalchemy.pool import QueuePool
from typing_extensions import override

from imgcache_scrapy.core.errors import ConfigurationError
from imgcache_scrapy.core.forks import FORKED, ForkObserver
from imgcache_scrapy.engine.catalog.sqlite import identity_of, path_of

# Calls that run in other threads have this number of seconds to end.
_WAIT_SECONDS = 1.0
_STEP_SECONDS = 0.001


def guard_forks(engine: Engine) -> None:
    """Close the connections of an engine before each fork, for as long as the engine exists.

    Args:
        engine: connects to a database; it has no connection yet.

    Raises:
        ConfigurationError: the parent of this process uses the same file, and could not close its
            connections when it forked.
    """
    path = path_of(engine.url)
    if path is not None:
        if identity_of(path) in _guard.inherited:
            raise ConfigurationError(FORKED)
        factory = partial(_Connection, path)

        @sa.event.listens_for(engine, "do_connect")
        def choose_factory(*arguments: Any) -> None:
            arguments[-1]["factory"] = factory

    if isinstance(engine.pool, QueuePool):
        _guard.add(engine)


class _Guard(ForkObserver):
    """Closes the connections of engines before each fork.

    Attributes:
        opening: held while a connection to SQLite is opened.
        closing: held while a connection to SQLite is closed.
        open: the open connections to SQLite.
        inherited: the files to which the parent of this process had connections when it forked.
    """

    def __init__(self) -> None:
        self.inherited: set[tuple[int, int]] = set()
        self._kept: list[_Connection] = []
        self._start()
        self.observe_forks()

    def _start(self) -> None:
        self.opening = Lock()
        self.closing = RLock()
        self.open: WeakSet[_Connection] = WeakSet()
        self._engines: WeakSet[Engine] = WeakSet()
        self._former_pools: WeakSet[QueuePool] = WeakSet()

    def add(self, engine: Engine) -> None:
        """Close the connections of this engine, too."""
        with self.opening:
            self._engines.add(engine)

    @override
    def before_fork(self) -> None:
        """Close all connections, if no call in another thread needs longer than a second to end.

        Until the fork is over, no connection to SQLite is opened or closed.
        """
        deadline = time.monotonic() + _WAIT_SECONDS
        self.opening.acquire()
        while True:
            self.closing.acquire()
            for engine in self._engines:
                pool = _pool_of(engine)
                if pool.checkedin() and not _serves_calls(engine):
                    self._former_pools.add(pool)
                    engine.dispose()
            # A thread that was about to use such a pool returned a connection to it afterwards.
            for pool in self._former_pools:
                pool.dispose()
            is_in_use = self.open or any(map(_serves_calls, self._engines))
            if not is_in_use or time.monotonic() > deadline:
                return
            self.closing.release()
            time.sleep(_STEP_SECONDS)

    @override
    def after_fork_in_parent(self) -> None:
        """Let the other threads go on."""
        self.closing.release()
        self.opening.release()

    @override
    def after_fork_in_child(self) -> None:
        """Remember to which files the parent has connections.

        Their copies stay open: closing them would write into the files.
        """
        self._kept += self.open
        self.inherited.update(filter(None, (identity_of(each.path) for each in self.open)))
        self._start()


class _Connection(sqlite3.Connection):
    """A connection to SQLite that is never opened or closed during a fork."""

    def __init__(self, path: Path, *args: Any, **options: Any) -> None:
        self.path = path
        with _guard.opening:
            super().__init__(*args, **options)
            _guard.open.add(self)

    @override
    def close(self) -> None:
        """Close the connection."""
        with _guard.closing:
            super().close()
            _guard.open.discard(self)


def _pool_of(engine: Engine) -> QueuePool:
    return cast("QueuePool", engine.pool)


def _serves_calls(engine: Engine) -> bool:
    """Return whether calls use connections to a server; those to SQLite are in `open`."""
    return engine.dialect.name != "sqlite" and _pool_of(engine).checkedout() > 0


_guard = _Guard()
