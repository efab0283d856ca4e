"""The migrations: Alembic makes the tables of a new catalog, and upgrades those of an old one.

Each file in `versions/` brings the catalog from one schema to the next and is never changed after
its release. It names tables and columns by itself, since `tables.py` is always of today. Columns
are added in place: Alembic's batch mode copies the table, and a copy would lose AUTOINCREMENT and
with it the rows of the search index.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock

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
    with _one_at_a_time, _quietly():
        # Imported here, since it takes 0.3 s, and almost every catalog is neither empty nor old.
        from alembic import command  # noqa: PLC0415
        from alembic.config import Config  # noqa: PLC0415

        config = Config(attributes={"connection": connection})
        config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
        if number is not None:
            # A catalog of the first release, which had no Alembic, or a copy without its table.
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
