"""Check the schema when a catalog is opened; create or upgrade it if necessary."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from imgcache_scrapy.core.errors import ConfigurationError, UnavailableError
from imgcache_scrapy.core.text import quoted
from imgcache_scrapy.engine.catalog import database, migrations, url_index
from imgcache_scrapy.engine.catalog.sqlite import NoCatalogError
from imgcache_scrapy.engine.catalog.tables import SCHEMA, history_index
from imgcache_scrapy.engine.catalog.tables import capture as _capture
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
        cache_id: 32 hex digits; the blobs of the cache have the same id. Empty in schema 1.
        adopts_blobs: True if the catalog comes from schema 1, until it is opened with its blobs.
    """

    number: int
    cache_id: str
    adopts_blobs: bool


BeforeUpgrade = Callable[[Identity, list[str]], None]
"""Checks an older catalog, given its identity and the hashes of some of its images."""


def open_schema(
    engine: Engine,
    *,
    upgrade: bool,
    before_upgrade: BeforeUpgrade = lambda *_: None,
    create: bool = True,
    is_read_only: bool = False,
) -> Identity:
    """Ensure that the catalog has the schema of this version; create it in an empty database.

    Nothing is written before the number of the schema is known.

    Args:
        engine: connects to the database.
        upgrade: True upgrades a catalog of an older version, False refuses it.
        before_upgrade: called before an older catalog is upgraded; if it raises, the catalog stays
            as it is.
        create: whether to create the tables in an empty database.
        is_read_only: whether nothing can be written.

    Raises:
        ConfigurationError: a newer version wrote the catalog, or an older one did and `upgrade`
            is False; or the catalog is not one that any version writes; or the database is empty,
            and `create` is False.
    """
    with database.connect_for_reading(engine) as connection:
        identity = _identity_if_current(connection)
        if identity is None:
            _check_number(_number_of(connection), upgrade=upgrade and not is_read_only)
            if not create and _number_of(connection) is None:
                message = "there is no cache: the database is empty"
                raise ConfigurationError(message) from NoCatalogError()
        if not is_read_only:
            database.use_wal(connection)
    if identity is not None:
        return identity
    with engine.begin() as connection:
        database.lock_schema(connection)
        number = _number_of(connection)
        if number != SCHEMA:
            _check_number(number, upgrade=upgrade)
            if number is not None:
                before_upgrade(_old_identity(connection, number), _sample_of(connection))
                database.wait_for_writers(connection, _schema)
            migrations.upgrade(connection, number)
            connection.execute(_schema.update().values(number=SCHEMA))
            if number is None:
                connection.execute(_clear_adopts_blobs)
        url_index.make(connection)
        return _checked(connection.execute(_identity).one())


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


def has_history_index(connection: Connection) -> bool:
    """Return whether the catalog has the index of histories."""
    names = {each["name"] for each in sa.inspect(connection).get_indexes(_capture.name)}
    return history_index.name in names


def index_histories(connection: Connection) -> None:
    """Replace the old index of keys by that of histories, which a large old catalog lacks.

    Args:
        connection: in a transaction.
    """
    database.lock_schema(connection)
    if not has_history_index(connection):
        database.wait_for_writers(connection, _schema)
        history_index.create(connection)
        connection.exec_driver_sql("DROP INDEX IF EXISTS ix_capture_url_digest")


def end_adoption(connection: Connection) -> None:
    """Record that the blobs of the catalog have its id now."""
    connection.execute(_clear_adopts_blobs)


def _identity_if_current(connection: Connection) -> Identity | None:
    """Return the identity of a catalog of this version; None if it must be created or upgraded."""
    try:
        rows = connection.execute(_identity).all()
    except sa.exc.DBAPIError:
        # An empty or an old database. Any other error is raised again by the next query.
        connection.rollback()
        return None
    if [row.number for row in rows] != [SCHEMA] or not url_index.is_made(connection):
        return None
    return _checked(rows[0])


def _old_identity(connection: Connection, number: int) -> Identity:
    """Return the identity of an older catalog; schema 1 has no id, and adopts its blobs."""
    if number == 1:
        return Identity(number, "", adopts_blobs=True)
    return _checked(connection.execute(_identity).one())


def _sample_of(connection: Connection) -> list[str]:
    return list(connection.scalars(_some_images))


def _checked(row: Sequence[Any]) -> Identity:
    identity = Identity(*row)
    if not isinstance(identity.cache_id, str) or not identity.cache_id:
        raise ConfigurationError(
            f"the catalog's table {_schema.name} has no id of the cache: restore a backup, or run"
            " `imgcache rebuild`"
        )
    return identity


def _number_of(connection: Connection) -> int | None:
    """Return the number of the schema; None for an empty database.

    Raises:
        ConfigurationError: no version of this package writes such a number.
    """
    if not sa.inspect(connection).has_table(_schema.name):
        return None
    return checked_number(connection.scalars(_number).all())


def checked_number(numbers: Sequence[Any]) -> int:
    """Return the only number of a schema's table.

    Args:
        numbers: the values in the table, whatever they are.

    Raises:
        ConfigurationError: there is not exactly one number from 1 on.
    """
    if len(numbers) == 1 and isinstance(numbers[0], int) and numbers[0] >= 1:
        return numbers[0]
    found = ", ".join(quoted(str(each)) for each in numbers[:3]) or "nothing"
    raise ConfigurationError(
        f"the catalog's table {_schema.name} must contain one number from 1 to {SCHEMA}, but it "
        f"contains {found}: restore a backup, or run `imgcache rebuild`"
    )


def _check_number(number: int | None, *, upgrade: bool) -> None:
    if number is not None and number > SCHEMA:
        raise ConfigurationError(
            f"the catalog has schema {number}, this imgcache-scrapy knows {SCHEMA}: upgrade it"
        )
    if number is not None and number < SCHEMA and not upgrade:
        raise ConfigurationError(
            f"the catalog has schema {number}, this imgcache-scrapy needs {SCHEMA}:"
            " run `imgcache upgrade`, or `imgcache serve --upgrade`"
        )
