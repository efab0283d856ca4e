"""The migrations: Alembic makes the tables of a new catalog, and upgrades those of an old one.

Each file in `versions/` brings the catalog from one schema to the next and is never changed after
its release. It names tables and columns by itself, since `tables.py` is always of today. Columns
are added in place: Alembic's batch mode copies the table, and a copy would lose AUTOINCREMENT and
with it the rows of the search index. Importing Alembic takes 0.3 s, so only a catalog that is
empty or old has this module imported.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock

from alembic import command
from alembic.config import Config
from sqlalchemy.engine import Connection

_logger = logging.getLogger("alembic")
# Alembic keeps what it works on in global variables.
_one_at_a_time = Lock()


def upgrade(connection: Connection, number: int | None) -> None:
    """Bring a catalog to the newest schema, within the caller's transaction.

    Args:
        connection: in a transaction in which nobody else writes.
        number: the schema that the catalog has now, None for an empty database.
    """
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    with _one_at_a_time, _quietly():
        if number is not None:
            # Where a released version that had no Alembic yet wrote it, or a copy left this out.
            command.stamp(config, revision_of(number))
        command.upgrade(config, "head")


def revision_of(number: int) -> str:
    """Return the name of the revision that makes the schema of this number."""
    return f"{number:04}"


@contextmanager
def _quietly() -> Iterator[None]:
    """Keep the progress messages of Alembic out of the log of a crawl."""
    level = _logger.level
    _logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        _logger.setLevel(level)
