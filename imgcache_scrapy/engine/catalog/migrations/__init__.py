"""The migrations: Alembic creates the tables of a new catalog and upgrades those of an old one.

Each file in `versions/` upgrades the catalog from one schema to the next. After its release, it is
never changed. It does not import `tables.py`, which describes only the newest schema. Columns are
added in place. Alembic's batch mode would copy the table; the copy would lose AUTOINCREMENT, and
the search index would not fit the rows any more.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock

from sqlalchemy.engine import Connection

from imgcache_scrapy.core.forks import ForkObserver, no_fork

_logger = logging.getLogger("alembic")


class _AlembicLock(ForkObserver):
    """Held while Alembic runs, because it uses global variables; a forked process has its own."""

    def __init__(self) -> None:
        self.after_fork_in_child()
        self.observe_forks()

    def after_fork_in_child(self) -> None:
        """Forget a thread of the parent that holds the lock."""
        self.lock = Lock()


_alembic = _AlembicLock()


def import_alembic() -> None:
    """Import Alembic before `upgrade` needs it; the import takes 0.3 s."""
    with no_fork, _warnings_only():
        import alembic.command  # noqa: PLC0415
        import alembic.config  # noqa: F401, PLC0415


def upgrade(connection: Connection, number: int | None) -> None:
    """Upgrade a catalog to the newest schema, within the transaction of the caller.

    Args:
        connection: in a transaction that excludes other writers.
        number: the schema that the catalog has now; None for an empty database.
    """
    import_alembic()
    with _alembic.lock, _warnings_only():
        # Imported here, because it takes 0.3 s and few catalogs are empty or old.
        from alembic import command  # noqa: PLC0415
        from alembic.config import Config  # noqa: PLC0415

        config = Config(attributes={"connection": connection})
        config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
        if number is not None:
            # The first release did not use Alembic, and a copied catalog may lack Alembic's table.
            command.stamp(config, revision_of(number))
        command.upgrade(config, "head")


def revision_of(number: int) -> str:
    """Return the name of the revision that creates the schema of this number."""
    return f"{number:04}"


@contextmanager
def _warnings_only() -> Iterator[None]:
    """Keep the progress messages of Alembic out of the log of a crawl."""
    level = _logger.level
    _logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        _logger.setLevel(level)
