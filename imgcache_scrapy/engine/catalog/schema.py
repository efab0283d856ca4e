"""Check the schema when a catalog is opened; create or upgrade it if necessary."""

from collections.abc import Callable
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from imgcache_scrapy.core.errors import ConfigurationError, UnavailableError
from imgcache_scrapy.engine.catalog import database, migrations, url_index
from imgcache_scrapy.engine.catalog.tables import SCHEMA
from imgcache_scrapy.engine.catalog.tables import image as _image
from imgcache_scrapy.engine.catalog.tables import schema as _schema

SAMPLE_SIZE = 64
"""Images whose blobs are looked for; their hashes are random."""

_identity = sa.select(_schema.c.number, _schema.c.cache_id, _schema.c.adopts_blobs)
_number = sa.select(_schema.c.number)
_some_images = (
    sa.select(_image.c.content_hash)
    .where(~_image.c.damaged)
    .order_by(_image.c.content_hash)
    .limit(SAMPLE_SIZE)
)
_clear_adopts_blobs = _schema.update().values(adopts_blobs=False)


class Identity(NamedTuple):
    """The row that identifies a catalog.

    Attributes:
        number: the number of its schema.
        cache_id: 32 hex digits; the blobs of the cache have the same id.
        adopts_blobs: True if the catalog comes from schema 1, until it is opened with its blobs.
    """

    number: int
    cache_id: str
    adopts_blobs: bool


def open_schema(
    engine: Engine,
    *,
    upgrade: bool,
    before_upgrade: Callable[[list[str]], None] = lambda _: None,
) -> Identity:
    """Ensure that the catalog has the schema of this version; create it in an empty database.

    Args:
        engine: connects to the database.
        upgrade: True upgrades a catalog of an older version, False refuses it.
        before_upgrade: called with the hashes of some images before an older catalog is upgraded;
            if it raises, the catalog stays as it is.

    Raises:
        ConfigurationError: a newer version wrote the catalog, or an older one did and `upgrade`
            is False.
    """
    identity = _identity_if_current(engine)
    if identity is not None:
        return identity
    with engine.begin() as connection:
        database.lock_schema(connection)
        number = _number_of(connection)
        if number != SCHEMA:
            _refuse_other_version(number, upgrade=upgrade)
            if number is not None:
                before_upgrade(list(connection.scalars(_some_images)))
                database.wait_for_writers(connection, _schema)
            migrations.upgrade(connection, number)
            connection.execute(_schema.update().values(number=SCHEMA))
            if number is None:
                connection.execute(_clear_adopts_blobs)
        url_index.make(connection)
        return Identity(*connection.execute(_identity).one())


def check_unchanged(connection: Connection) -> None:
    """Check that no newer version has upgraded the catalog since it was opened.

    Args:
        connection: in the transaction that is going to write.

    Raises:
        UnavailableError: the catalog has another schema. This error lets a crawl spool its
            images, so that a newer version can store them later. A `ConfigurationError` would
            stop the crawl.
    """
    number = connection.scalar(_number)
    if number != SCHEMA:
        raise UnavailableError(
            f"the catalog was upgraded to schema {number} while this process ran, and this"
            f" imgcache-scrapy writes schema {SCHEMA} only: upgrade it and start it again"
        )


def end_adoption(connection: Connection) -> None:
    """Record that the blobs of the catalog have its id now."""
    connection.execute(_clear_adopts_blobs)


def _identity_if_current(engine: Engine) -> Identity | None:
    """Return the identity of a catalog of this version; None if it must be created or upgraded."""
    with database.connect_for_reading(engine) as connection:
        try:
            row = connection.execute(_identity).first()
        except sa.exc.DBAPIError:
            # An empty or an old database. Any other error is raised again under the lock.
            return None
        is_ready = row is not None and row.number == SCHEMA and url_index.is_made(connection)
        return Identity(*row) if row is not None and is_ready else None


def _number_of(connection: Connection) -> int | None:
    """Return the number of the schema; None for an empty database."""
    if not sa.inspect(connection).has_table(_schema.name):
        return None
    return connection.scalar(_number)


def _refuse_other_version(number: int | None, *, upgrade: bool) -> None:
    if number is not None and number > SCHEMA:
        raise ConfigurationError(
            f"the catalog has schema {number}, this imgcache-scrapy knows {SCHEMA}: upgrade it"
        )
    if number is not None and not upgrade:
        raise ConfigurationError(
            f"the catalog has schema {number}, this imgcache-scrapy needs {SCHEMA}:"
            " run `imgcache upgrade`, or `imgcache serve --upgrade`"
        )
