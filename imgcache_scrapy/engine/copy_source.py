"""CopySource: what a copy needs of the cache that is copied; CacheSource: one in this process."""

from contextlib import suppress
from typing import Protocol

from imgcache_scrapy.core.errors import NotFoundError, ReadOnlyError
from imgcache_scrapy.engine.blobs.states import examine
from imgcache_scrapy.engine.cache import ImageCache
from imgcache_scrapy.engine.catalog.catalog import Catalog


class CopySource(Protocol):
    """A cache to copy from."""

    @property
    def catalog(self) -> Catalog:
        """Its catalog."""

    def read(self, content_hash: str) -> bytes | None:
        """Read an image and check its hash; any number of threads may call it.

        Returns:
            The bytes; None if they are missing or damaged.

        Raises:
            UnavailableError: the whole cache fails.
        """


class CacheSource:
    """A cache to copy from that this process has opened.

    Args:
        cache: the cache.
    """

    def __init__(self, cache: ImageCache) -> None:
        self._cache = cache

    @property
    def catalog(self) -> Catalog:
        """Its catalog."""
        return self._cache.catalog

    def read(self, content_hash: str) -> bytes | None:
        """Read an image and check its hash; one that is found damaged is marked.

        Returns:
            The bytes; None if they are missing or damaged.

        Raises:
            UnavailableError: the whole cache fails.
        """
        state, data = examine(self._cache.blobs, content_hash)
        if state == "sound":
            return data
        self._cache.check_blobs()
        with suppress(NotFoundError, ReadOnlyError):
            return self._cache.get_image(content_hash)[0]
        return None
