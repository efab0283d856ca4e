"""The index that makes `search` fast: trigrams of the URLs, in SQLite and in PostgreSQL."""

import json
from collections.abc import Iterable

import sqlalchemy as sa
from sqlalchemy.engine import Connection

# A trigram has three characters; the index cannot find a shorter text.
_MIN_TEXT_LENGTH = 3
# New URLs are indexed in batches of this size, which takes a tenth of the time.
_INDEX_BATCH = 1000
# Above this many candidates, scanning the newest rows is faster than using the index.
_MAX_CANDIDATES = 2000
_SAMPLE_SIZE = 256
_MAX_TRIGRAMS = 3

# The index stores only row ids. Deleted rows stay in it; the query ignores their ids.
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
# URLs at equal distances over all ids; each is found by its primary key.
_SAMPLE = """
    WITH RECURSIVE
        ends(low, high) AS (SELECT (SELECT min(id) FROM capture), (SELECT max(id) FROM capture)),
        number(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM number WHERE n < :count)
    SELECT url FROM number, ends JOIN capture ON id = low + (high - low) * n / :count
"""
_CHECK = "INSERT INTO capture_url(capture_url) VALUES ('integrity-check')"
_IS_MADE = "SELECT EXISTS (SELECT 1 FROM sqlite_master WHERE name = 'capture_url')"
# Without the extension pg_trgm, there is no index to create.
_IS_MADE_POSTGRESQL = """
    SELECT to_regclass('ix_capture_url') IS NOT NULL
        OR NOT EXISTS (SELECT 1 FROM pg_extension WHERE extname = 'pg_trgm')
"""
_MAKE_POSTGRESQL = """
    CREATE INDEX IF NOT EXISTS ix_capture_url ON capture USING gin (url gin_trgm_ops)
"""


def is_made(connection: Connection) -> bool:
    """Return whether the index exists, or cannot be created."""
    is_sqlite = connection.dialect.name == "sqlite"
    query = _IS_MADE if is_sqlite else _IS_MADE_POSTGRESQL
    return bool(connection.exec_driver_sql(query).scalar())


def make(connection: Connection) -> None:
    """Create the index if it does not exist; in PostgreSQL only if it has `pg_trgm`."""
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql(_MAKE)
        extend(connection)
    elif connection.scalar(sa.text("SELECT 1 FROM pg_extension WHERE extname = 'pg_trgm'")):
        connection.exec_driver_sql(_MAKE_POSTGRESQL)


def extend(connection: Connection) -> None:
    """Index the new URLs if there are enough for a batch; PostgreSQL indexes by itself."""
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql(_INDEX, (_INDEX_BATCH,))


def check(connection: Connection) -> None:
    """Check the index in SQLite; an error says that it is damaged."""
    connection.exec_driver_sql(_CHECK)


def candidates(connection: Connection, url_contains: str) -> sa.Select[tuple[int]] | None:
    """Return a query for the ids of the captures whose URL may contain a text.

    All captures whose URL contains the text are among them.

    Args:
        connection: to the database.
        url_contains: the text.

    Returns:
        The query; None if there are too many candidates or the text is too short, and for
        PostgreSQL, which uses its index by itself.
    """
    if connection.dialect.name != "sqlite" or len(url_contains) < _MIN_TEXT_LENGTH:
        return None
    sample = connection.exec_driver_sql(_SAMPLE, {"count": _SAMPLE_SIZE}).scalars().all()
    wanted = " AND ".join(map(_quoted, rarest_trigrams(url_contains, sample)))
    ids = list(connection.exec_driver_sql(_INDEXED, (wanted, _MAX_CANDIDATES)).scalars())
    if len(ids) == _MAX_CANDIDATES:
        return None
    ids += connection.exec_driver_sql(_NOT_INDEXED).scalars()
    return sa.select(sa.func.json_each(json.dumps(ids)).table_valued("value").c.value)


def rarest_trigrams(text: str, sample: Iterable[str]) -> list[str]:
    """Choose trigrams for a search: rare ones, because most URLs contain a common trigram.

    Args:
        text: three characters or more.
        sample: some of the URLs.

    Returns:
        Up to three trigrams of the text, those that the fewest URLs contain.
    """
    urls = list(sample)
    trigrams = dict.fromkeys(text[i : i + 3] for i in range(len(text) - 2))
    return sorted(trigrams, key=lambda trigram: sum(trigram in url for url in urls))[:_MAX_TRIGRAMS]


def _quoted(trigram: str) -> str:
    return '"' + trigram.replace('"', '""') + '"'
