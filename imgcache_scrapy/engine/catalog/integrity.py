"""Check that a catalog in SQLite is whole: its pages, its references, its index and its URLs."""

from collections.abc import Callable, Iterator

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from imgcache_scrapy.engine.catalog import sqlite, url_index
from imgcache_scrapy.engine.catalog.rows import digest
from imgcache_scrapy.engine.catalog.tables import capture as _capture

_MAX_FINDINGS = 100
_digests = sa.select(
    _capture.c.id, sa.func.coalesce(_capture.c.key, _capture.c.url), _capture.c.url_digest
)


def damage_of(connection: Connection, *, may_write: bool) -> list[str]:
    """Check a catalog; PostgreSQL checks its own pages.

    Args:
        connection: to the database, not in a transaction.
        may_write: whether a transaction may begin; the index of URLs cannot be checked without.

    Returns:
        What is wrong, one line for each finding; an empty list if the catalog is whole.
    """
    if connection.dialect.name != "sqlite":
        return []
    checks = [_page_findings, _reference_findings, _url_findings]
    if may_write:
        checks.append(_index_findings)
    return [line for check in checks for line in _findings(check, connection)]


def _findings(
    check: Callable[[Connection], Iterator[str]], connection: Connection
) -> Iterator[str]:
    try:
        yield from check(connection)
    except sa.exc.DBAPIError as error:
        if not sqlite.is_damage(error):
            raise
        yield str(error.orig)
    except (TypeError, ValueError, AttributeError, UnicodeError):
        yield "a row of the table capture has values of a wrong type"


def _page_findings(connection: Connection) -> Iterator[str]:
    query = f"PRAGMA integrity_check({_MAX_FINDINGS})"
    for line in connection.exec_driver_sql(query).scalars():
        if line != "ok":
            yield " ".join(str(line).split())


def _reference_findings(connection: Connection) -> Iterator[str]:
    if connection.exec_driver_sql("PRAGMA foreign_key_check").first() is not None:
        yield "a capture has no image"


def _url_findings(connection: Connection) -> Iterator[str]:
    for number, key, key_digest in connection.execute(_digests):
        if digest(key) != key_digest:
            yield f"the URL of capture {number} is damaged"
            return


def _index_findings(connection: Connection) -> Iterator[str]:
    url_index.check(connection)
    yield from ()
