"""The schema of a catalog: read on opening, made or upgraded where it is not this version's."""

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from imgcache_scrapy.core.errors import ConfigurationError, UnavailableError
from imgcache_scrapy.engine.catalog import dialects, url_index
from imgcache_scrapy.engine.catalog.tables import SCHEMA
from imgcache_scrapy.engine.catalog.tables import schema as _schema

_number = sa.select(_schema.c.number)


def open_schema(engine: Engine, *, upgrade: bool) -> None:
    """Make sure that the catalog has the schema of this version; an empty database gets it.

    Args:
        engine: connects to the database.
        upgrade: whether a catalog of an older version is upgraded, or else refused.

    Raises:
        ConfigurationError: a newer version wrote the catalog, or an older one where `upgrade` is
            False.
    """
    if _is_ready(engine):
        return
    with engine.begin() as connection:
        dialects.lock_schema(connection)
        number = _number_of(connection)
        if number != SCHEMA:
            _check(number, upgrade=upgrade)
            # Imported here, since it takes 0.3 s and almost every catalog is of today.
            from imgcache_scrapy.engine.catalog import migrations  # noqa: PLC0415

            if number is not None:
                dialects.wait_for_writers(connection, _schema)
            migrations.upgrade(connection, number)
            connection.execute(_schema.update().values(number=SCHEMA))
        url_index.make(connection)


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


def _is_ready(engine: Engine) -> bool:
    with dialects.reading(engine) as connection:
        try:
            number = connection.scalar(_number)
        except sa.exc.DBAPIError:
            # An empty database has no such table. What else may be wrong shows under the lock.
            return False
        return number == SCHEMA and url_index.is_made(connection)


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
            " run `imgcache upgrade`"
        )
