"""AbsentCache: answers for a cache that does not exist yet, and creates nothing."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryFile

from typing_extensions import override

from imgcache_scrapy.core.entry import Entry
from imgcache_scrapy.core.errors import BlockedError, ReadOnlyError, StoreFailedError, not_found
from imgcache_scrapy.core.lazy import lazy_property
from imgcache_scrapy.engine.cache import ImageCache
from imgcache_scrapy.engine.catalog import migrations
from imgcache_scrapy.engine.catalog.empty import EmptyCatalog
from imgcache_scrapy.engine.catalog.sqlite import path_of
from imgcache_scrapy.engine.location import CATALOG_NAME
from imgcache_scrapy.engine.store_request import ClaimRequest, StoreRequest


class AbsentCache(ImageCache):
    """A cache that does not exist yet: it has no images.

    Args:
        folder: the folder in which the first store will create the cache.
        is_open: returns whether this process has opened a cache for the folder.
    """

    def __init__(self, folder: Path, is_open: Callable[[], bool]) -> None:
        self._folder = folder
        self._is_open = is_open

    @lazy_property
    def catalog(self) -> EmptyCatalog:  # type: ignore[override]
        """An empty catalog; it is made by the first query."""
        return EmptyCatalog()

    def is_absent(self) -> bool:
        """Return whether there is still no cache in the folder."""
        return not self._is_open() and is_absent(self._folder)

    @property
    @override
    def paired_blobs(self) -> None:
        """None: there are no blobs."""

    @override
    def store_many(
        self, requests: Sequence[StoreRequest | ClaimRequest]
    ) -> list[Entry | StoreFailedError | BlockedError | None]:
        """Record nothing: only claims come here, and there are no images."""
        return [None for _ in requests]

    @override
    def get_image(self, content_hash: str, bucket: str | None = None) -> tuple[bytes, str]:
        raise not_found(content_hash, bucket)

    @override
    def delete(self, content_hash: str, bucket: str = "", actor: str = "") -> None:
        raise not_found(content_hash, bucket)

    @override
    def check(self) -> None:
        """Check that the cache can be created.

        Raises:
            ReadOnlyError: it cannot.
        """
        if not can_create(self._folder):
            raise ReadOnlyError(f"there is no cache, and none can be created in {self._folder}")

    @override
    def close(self) -> None:
        if "catalog" in self.__dict__:
            self.catalog.close()


def is_absent(folder: Path) -> bool:
    """Return whether `ImageCache.in_folder` would have to create the catalog in a folder."""
    address = os.environ.get("IMGCACHE_DATABASE_URL")
    file = path_of(address) if address else folder / CATALOG_NAME
    # An empty file has no tables yet.
    return file is not None and not (file.exists() and (file.is_dir() or file.stat().st_size))


def import_for(folder: Path) -> None:
    """Import what `ImageCache.in_folder` needs to create a cache, if there is none in a folder."""
    # The import takes 0.3 s. In the thread that opens the cache it would block the event loop.
    if is_absent(folder):
        migrations.import_alembic()


def can_create(folder: Path) -> bool:
    """Return whether files can be created in a folder, or the folder itself if it is missing."""
    existing = next(each for each in (folder, *folder.parents) if os.path.lexists(each))
    try:
        # Linux gives this file no name, so that nobody sees it.
        TemporaryFile(dir=existing).close()
    except OSError:
        return False
    return True
