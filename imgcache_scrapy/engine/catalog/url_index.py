"""The index behind `search`: trigrams of the captures' URLs, in SQLite and in PostgreSQL."""

import json
from collections.abc import Iterable

import sqlalchemy as sa
from sqlalchemy.engine import Connection

# Trigrams index no shorter text.
_SHORTEST = 3
# So many new URLs wait to be indexed together, at a tenth of what they cost one by one.
_BATCH = 1000
# Of so many candidates on, whoever wants the newest few finds them sooner without the index.
_MANY = 2000
_SAMPLED = 256
_RAREST = 3

# Only lists of rows are kept; those of rows that are gone are found in vain.
_MAKE = """
    CREATE VIRTUAL TABLE IF NOT EXISTS capture_url
    USING fts5(url, content='', detail=none, tokenize='trigram case_sensitive 1')
"""
_INDEX = """
    INSERT INTO capture_url(rowid, url)
    SELECT id, url FROM capture, (SELECT coalesce(max(id), 0) AS last FROM capture_url_docsize)
    WHERE id > last AND (SELECT max(id) FROM capture) >= last + ?
"""
_INDEXED = "SELECT rowid FROM capture_url WHERE capture_url MATCH ? LIMIT ?"
_NOT_INDEXED = """
    SELECT id FROM capture WHERE id > (SELECT coalesce(max(id), 0) FROM capture_url_docsize)
"""
# Evenly over all ids, at one step of the primary key for each.
_SAMPLE = """
    WITH RECURSIVE
        ends(low, high) AS (SELECT (SELECT min(id) FROM capture), (SELECT max(id) FROM capture)),
        number(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM number WHERE n < ?1)
    SELECT url FROM number, ends JOIN capture ON id = low + (high - low) * n / ?1
"""
_IS_MADE = "SELECT EXISTS (SELECT 1 FROM sqlite_master WHERE name = 'capture_url')"
# Where the extension is missing there is nothing to make.
_IS_MADE_POSTGRESQL = """
    SELECT to_regclass('ix_capture_url') IS NOT NULL
        OR NOT EXISTS (SELECT 1 FROM pg_extension WHERE extname = 'pg_trgm')
"""
_MAKE_POSTGRESQL = """
    CREATE INDEX IF NOT EXISTS ix_capture_url ON capture USING gin (url gin_trgm_ops)
"""


def is_made(connection: Connection) -> bool:
    """Return whether `make` has nothing to do."""
    is_sqlite = connection.dialect.name == "sqlite"
    query = _IS_MADE if is_sqlite else _IS_MADE_POSTGRESQL
    return bool(connection.exec_driver_sql(query).scalar())


def make(connection: Connection) -> None:
    """Make the index, in PostgreSQL where `pg_trgm` is there; harmless when repeated."""
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql(_MAKE)
        extend(connection)
    elif connection.scalar(sa.text("SELECT 1 FROM pg_extension WHERE extname = 'pg_trgm'")):
        connection.exec_driver_sql(_MAKE_POSTGRESQL)


def extend(connection: Connection) -> None:
    """Index the new URLs, once there are enough of them; PostgreSQL does so by itself."""
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql(_INDEX, (_BATCH,))


def candidates(connection: Connection, url_contains: str) -> sa.Select[tuple[int]] | None:
    """Give a query of the ids of few captures, among which are all whose URL holds a text.

    Args:
        connection: to the database.
        url_contains: the text.

    Returns:
        The query; None where there may be many, and where the database looks for itself.
    """
    if connection.dialect.name != "sqlite" or len(url_contains) < _SHORTEST:
        return None
    sample = connection.exec_driver_sql(_SAMPLE, (_SAMPLED,)).scalars().all()
    wanted = " AND ".join(map(_quoted, rarest_trigrams(url_contains, sample)))
    ids = list(connection.exec_driver_sql(_INDEXED, (wanted, _MANY)).scalars())
    if len(ids) == _MANY:
        return None
    ids += connection.exec_driver_sql(_NOT_INDEXED).scalars()
    return sa.select(sa.func.json_each(json.dumps(ids)).table_valued("value").c.value)


def rarest_trigrams(text: str, sample: Iterable[str]) -> list[str]:
    """Choose what narrows a search down: a common trigram's list is as long as the table.

    Args:
        text: of three characters or more.
        sample: some of the URLs.

    Returns:
        Up to three of the text's trigrams, those that the fewest URLs hold.
    """
    urls = list(sample)
    trigrams = dict.fromkeys(text[i : i + 3] for i in range(len(text) - 2))
    return sorted(trigrams, key=lambda trigram: sum(trigram in url for url in urls))[:_RAREST]


def _quoted(trigram: str) -> str:
    return '"' + trigram.replace('"', '""') + '"'
