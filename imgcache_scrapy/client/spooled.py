"""SpooledImages: reads the images that wait in a spool for one cache."""

import asyncio
from collections.abc import Iterable

from imgcache_scrapy.client.spool import Spool
from imgcache_scrapy.core.entry import Entry, content_hash_of


class SpooledImages:
    """The images that wait for a cache.

    Args:
        spool: the spool; None for no spool, which has no images.
        cache_name: the name of the cache in the records of the spool.
    """

    def __init__(self, spool: Spool | None, cache_name: str) -> None:
        self._spool = spool
        self._cache_name = cache_name

    async def waiting(self, keys: Iterable[str], bucket: str) -> dict[str, str]:
        """Return the names of the records that the spool has of these keys."""
        if self._spool is None:
            return {}
        index = self._spool.index
        if not index.is_fresh:
            await asyncio.to_thread(index.scan)
        return index.find(keys, bucket, self._cache_name)

    async def entries(self, waiting: dict[str, str]) -> dict[str, Entry]:
        """Return the entries of records that are still there.

        Args:
            waiting: the names of the records, by key.
        """
        return await asyncio.to_thread(self._read_entries, waiting) if waiting else {}

    async def data(self, name: str, content_hash: str) -> bytes | None:
        """Return the bytes of an image; None if the record is gone, or has another image."""
        return await asyncio.to_thread(self._read_data, name, content_hash)

    def _read_entries(self, waiting: dict[str, str]) -> dict[str, Entry]:
        assert self._spool is not None  # noqa: S101 - it has records
        entries = {}
        for key, name in waiting.items():
            record = self._spool.read(name)
            if record is not None and key == (record.key or record.url):
                entries[key] = record.entry()
        return entries

    def _read_data(self, name: str, content_hash: str) -> bytes | None:
        assert self._spool is not None  # noqa: S101 - it has records
        record = self._spool.read(name)
        is_it = record is not None and content_hash_of(record.data) == content_hash
        return record.data if record is not None and is_it else None
