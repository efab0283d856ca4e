"""EmptyCatalog: answers for a catalog that does not exist yet."""

from collections.abc import Sequence
from contextlib import nullcontext

import sqlalchemy as sa

from imgcache_scrapy.core.blocked import Source
from imgcache_scrapy.core.uses import NewUse
from imgcache_scrapy.engine.catalog import tables, url_index
from imgcache_scrapy.engine.catalog.catalog import Catalog


class EmptyCatalog(Catalog):
    """A catalog without images, in memory; nothing can be written into it."""

    def __init__(self) -> None:
        self.on_write = lambda: None
        options = {"check_same_thread": False}
        # One connection for all threads, because each connection has its own database in memory.
        self._engine = sa.create_engine(
            "sqlite://", poolclass=sa.pool.StaticPool, connect_args=options
        )
        self._write_lock = nullcontext()
        self._file = None
        self.cache_id = ""
        self.adopts_blobs = False
        with self._engine.begin() as connection:
            tables.metadata.create_all(connection)
            url_index.make(connection)

    def unblock(self, content_hash: str, actor: str = "") -> bool:  # noqa: ARG002
        """Return False: no image is blocked."""
        return False

    def unblock_source(self, source: Source, actor: str = "") -> bool:  # noqa: ARG002
        """Return False: no host and no URL is blocked."""
        return False

    def record_uses(self, uses: Sequence[NewUse]) -> int:  # noqa: ARG002
        """Return 0: there are no images that could be used."""
        return 0

    @property
    def is_read_only(self) -> bool:
        """Always true: the catalog does not exist."""
        return True
