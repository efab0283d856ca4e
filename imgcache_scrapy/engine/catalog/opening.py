"""OpenCatalog: opens a catalog, and runs its write transactions."""

import os
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from imgcache_scrapy.core.errors import ReadOnlyError
from imgcache_scrapy.core.files import sync_file
from imgcache_scrapy.core.lazy import lazy_property
from imgcache_scrapy.engine.catalog import database
from imgcache_scrapy.engine.catalog.database import database_call
from imgcache_scrapy.engine.catalog.filling import Filled, count_unfilled
from imgcache_scrapy.engine.catalog.forks import guard_forks
from imgcache_scrapy.engine.catalog.integrity import damage_of
from imgcache_scrapy.engine.catalog.rare_rows import RareRows
from imgcache_scrapy.engine.catalog.schema import (
    BeforeUpgrade,
    check_unchanged,
    end_adoption,
    has_history_index,
    index_histories,
    open_schema,
)
from imgcache_scrapy.engine.catalog.sqlite import DatabaseUrl, SqliteFile
from imgcache_scrapy.engine.catalog.transaction import WriteTransaction


class OpenCatalog:
    """The connection to a catalog: opens it, and runs write transactions.

    Args:
        database_url: the SQLAlchemy URL of the database; the tables are created if it is empty.
        upgrade: True upgrades a catalog of an older version, False refuses it.
        before_upgrade: called before an older catalog is upgraded; if it raises, the catalog stays
            as it is.
        create: False never creates a file or tables.

    Attributes:
        cache_id: the id of the cache; its blobs have the same id.
        adopts_blobs: whether blobs without an id are accepted; True until `end_adoption`.
        on_write: called after each write transaction.

    Raises:
        ConfigurationError: a newer version wrote the database, or an older one did and `upgrade`
            is False; or there is no catalog, and `create` is False.
        ReadOnlyError: there is no catalog, and none can be created.
    """

    _forbids_writing = False

    def __init__(
        self,
        database_url: DatabaseUrl,
        *,
        upgrade: bool = True,
        before_upgrade: BeforeUpgrade = lambda *_: None,
        create: bool = True,
    ) -> None:
        self.on_write: Callable[[], object] = lambda: None
        self._engine = database.create_engine(database_url)
        guard_forks(self._engine)
        self._write_lock = database.write_lock(self._engine)
        self._file = SqliteFile.of(self._engine)
        try:
            if self._file is not None:
                self._file.open(create=create)
            identity = open_schema(
                self._engine,
                upgrade=upgrade,
                before_upgrade=before_upgrade,
                create=create,
                is_read_only=self.is_read_only,
            )
        except BaseException:
            self.close()
            raise
        if self._file is not None:
            self._file.remember()
        self.cache_id = identity.cache_id
        self.adopts_blobs = identity.adopts_blobs

    @lazy_property
    def _rare_rows(self) -> RareRows:
        return RareRows(self._engine)

    @property
    def is_read_only(self) -> bool:
        """Whether nothing can be written."""
        return self._forbids_writing or (self._file is not None and self._file.is_read_only)

    def forbid_writing(self) -> None:
        """Let this object refuse all further changes, as if the catalog could only be read."""
        self._forbids_writing = True

    @property
    def file(self) -> Path | None:
        """The path of the file in SQLite; None for other databases."""
        return None if self._file is None else self._file.path

    def check_in_place(self) -> None:
        """Check that the file in SQLite is still the one that was opened.

        Raises:
            UnavailableError: it was removed or replaced.
        """
        if self._file is not None:
            self._file.check_in_place()

    def check_writable(self) -> None:
        """Check that the catalog can be written.

        Raises:
            ReadOnlyError: it can only be read.
            UnavailableError: its file was removed or replaced since it was opened.
        """
        self.check_in_place()
        if self._forbids_writing:
            raise ReadOnlyError("this service only reads its cache: it runs with --read-only")
        if self.is_read_only:
            raise ReadOnlyError("the cache can only be read: its folder or its file is read-only")

    @contextmanager
    def exclusive(self, content_hashes: Collection[str]) -> Iterator[WriteTransaction]:
        """Open a write transaction: no other one changes these images or their blobs.

        The transaction is committed, and durable, when the block ends; an exception rolls it back.

        Raises:
            UnavailableError: a newer version has upgraded the catalog since it was opened, or its
                file was removed or replaced.
            ReadOnlyError: the catalog can only be read.
        """
        self.check_writable()
        with self._write_lock, self._engine.begin() as connection:
            self.check_in_place()  # Again, because the wait for another writer may be long.
            check_unchanged(connection)
            database.lock(connection, content_hashes)
            yield WriteTransaction(connection, content_hashes)
        self.on_write()

    @database_call
    def count_unfilled(self) -> int:
        """Return the number of old captures that `fill_keys` has not filled yet."""
        with database.connect_for_reading(self._engine) as connection:
            return connection.scalar(count_unfilled) or 0

    @database_call
    def fill_keys(self, after: int) -> Filled:
        """Fill the keys and hosts of the next old captures, in a transaction of its own.

        Args:
            after: the id after which the batch begins.
        """
        with self.exclusive(()) as transaction:
            return transaction.fill_keys(after)

    @database_call
    def index_histories(self) -> None:
        """Create the index of histories, which a large catalog of an older version lacks.

        Others can read meanwhile; writers wait, about a second for a million captures.
        """
        with database.connect_for_reading(self._engine) as connection:
            if has_history_index(connection):
                return
        self.check_writable()
        with self._write_lock, self._engine.begin() as connection:
            index_histories(connection)

    @database_call
    def copy_to(self, path: Path) -> None:
        """Write a consistent and durable copy of a catalog in SQLite; others may write meanwhile.

        Args:
            path: a file that does not exist, or is empty.
        """
        with database.connect_for_reading(self._engine) as connection:
            # As bytes, because the path of a file may not be UTF-8.
            connection.exec_driver_sql("VACUUM INTO CAST(? AS TEXT)", (os.fsencode(path),))
        sync_file(path)

    @database_call
    def damage(self) -> list[str]:
        """Check that the catalog is whole, in SQLite.

        Returns:
            What is wrong, one line for each finding.
        """
        with database.connect_for_reading(self._engine) as connection:
            return damage_of(connection, may_write=not self.is_read_only)

    @database_call
    def end_adoption(self) -> None:
        """Record that the blobs of this catalog have its id now."""
        with self._write_lock, self._engine.begin() as connection:
            end_adoption(connection)
        self.adopts_blobs = False

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()
