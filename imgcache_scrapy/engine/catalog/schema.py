"""The schema of a catalog: read on opening, made or upgraded where it is not this version's."""

from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from imgcache_scrapy.core.errors import ConfigurationError, UnavailableError
from imgcache_scrapy.engine.catalog import database, migrations, url_index
from imgcache_scrapy.engine.catalog.tables import SCHEMA
from imgcache_scrapy.engine.catalog.tables import schema as _schema

_identity = sa.select(_schema.c.number, _schema.c.cache_id, _schema.c.adopts_blobs)
_number = sa.select(_schema.c.number)
_adopted = _schema.update().values(adopts_blobs=False)


class Identity(NamedTuple):
    """What a catalog says of itself.

    Attributes:
        number: of its schema.
        cache_id: 32 hex digits, the same in the blobs of the cache.
        adopts_blobs: whether it comes from schema 1 and was not opened with its blobs since.
    """

    number: int
    cache_id: str
    adopts_blobs: bool


def open_schema(engine: Engine, *, upgrade: bool) -> Identity:
    """Make sure that the catalog has the schema of this version; an empty database gets it.

    Args:
        engine: connects to the database.
        upgrade: whether a catalog of an older version is upgraded, or else refused.

    Raises:
        ConfigurationError: a newer version wrote the catalog, or an older one where `upgrade` is
            False.
    """
    identity = _ready(engine)
    if identity is not None:
        return identity
    with engine.begin() as connection:
        database.lock_schema(connection)
        number = _number_of(connection)
        if number != SCHEMA:
            _check(number, upgrade=upgrade)
            if number is not None:
                database.wait_for_writers(connection, _schema)
            migrations.upgrade(connection, number)
            connection.execute(_schema.update().values(number=SCHEMA))
            if number is None:
                connection.execute(_adopted)
        url_index.make(connection)
        return Identity(*connection.execute(_identity).one())


def check_unchanged(connection: Connection) -> None:
    """Refuse to write into a catalog that a newer version has upgraded since it was opened.

    Args:
        connection: in the transaction that is going to write.

    Raises:
        UnavailableError: it has another schema. A crawl then spools its images, and another
            version stores them later; an error of the configuration would be its end.
    """
    number = connection.scalar(_number)
    if number != SCHEMA:
        raise UnavailableError(
            f"the catalog was upgraded to schema {number} while this process ran, and this"
            f" imgcache-scrapy writes schema {SCHEMA} only: upgrade it and start it again"
        )


def end_adoption(connection: Connection) -> None:
    """Note that the blobs of the catalog carry its id now."""
    connection.execute(_adopted)


def _ready(engine: Engine) -> Identity | None:
    """Return what the catalog says of itself, None where there is something to do."""
    with database.reading(engine) as connection:
        try:
            row = connection.execute(_identity).first()
        except sa.exc.DBAPIError:
            # An empty database or an old one. What else may be wrong shows under the lock.
            return None
        is_ready = row is not None and row.number == SCHEMA and url_index.is_made(connection)
        return Identity(*row) if row is not None and is_ready else None


def _number_of(connection: Connection) -> int | None:
    """Return the number of the schema, None for an empty database."""
    if not sa.inspect(connection).has_table(_schema.name):
        return None
    return connection.scalar(_number)


def _check(number: int | None, *, upgrade: bool) -> None:
    if number is not None and number > SCHEMA:
        raise ConfigurationError(
            f"the catalog has schema {number}, this imgcache-scrapy knows {SCHEMA}: upgrade it"
        )
    if number is not None and not upgrade:
        raise ConfigurationError(
            f"the catalog has schema {number}, this imgcache-scrapy needs {SCHEMA}:"
            " run `imgcache upgrade`, or `imgcache serve --upgrade`"
        )
