"""Close the connections to SQLite before a fork, because SQLite does not support them after it.

A forked process has a copy of what SQLite remembers about the locks of its parent. While the parent
has a connection, the new process would take these locks for its own, and the parent could remove
the journal into which the new process writes. See "How To Corrupt An SQLite Database File",
section 2.6: https://www.sqlite.org/howtocorrupt.html
"""

import time

from sqlalchemy.engine import Engine
from sqlalchemy.pool import QueuePool
from typing_extensions import override

from imgcache_scrapy.core.errors import ConfigurationError
from imgcache_scrapy.core.forks import FORKED, ForkObserver
from imgcache_scrapy.engine.catalog.sqlite import identity_of, path_of

# Calls that run in other threads have this number of seconds to end.
_WAIT_SECONDS = 1.0
_STEP_SECONDS = 0.001


class ForkGuard(ForkObserver):
    """Closes the connections of an engine before each fork, for as long as the guard exists.

    Args:
        engine: connects to the database.

    Raises:
        ConfigurationError: the parent of this process uses the same database, and could not close
            its connections when it forked.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._path = path_of(engine.url)
        if self._path is not None and identity_of(self._path) in _inherited:
            raise ConfigurationError(FORKED)
        self.observe_forks()

    @override
    def before_fork(self) -> None:
        """Close all connections, if no call needs longer than a second to end."""
        pool = self._engine.pool
        deadline = time.monotonic() + _WAIT_SECONDS
        while isinstance(pool, QueuePool) and time.monotonic() < deadline:
            if not pool.checkedout():
                self._engine.dispose()
                return
            time.sleep(_STEP_SECONDS)

    @override
    def after_fork(self) -> None:
        """Remember the database if the parent has connections to it; they stay open."""
        pool = self._engine.pool
        identity = None if self._path is None else identity_of(self._path)
        is_open = isinstance(pool, QueuePool) and pool.checkedin() + pool.checkedout() > 0
        if identity is not None and is_open:
            _inherited.add(identity)


_inherited: set[tuple[int, int]] = set()
