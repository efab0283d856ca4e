"""SpooledImages: the images that wait in a spool for one cache, for an event loop."""

import asyncio
import logging
from collections.abc import Callable, Iterable

from imgcache_scrapy.client.blocked_hashes import BlockedHashes
from imgcache_scrapy.client.record import Record
from imgcache_scrapy.client.spool import Spool
from imgcache_scrapy.core.entry import Entry, content_hash_of
from imgcache_scrapy.core.errors import UnavailableError
from imgcache_scrapy.core.text import reason_of


class SpooledImages:
    """The images that wait for a cache.

    Args:
        spool: the spool; None for no spool, which has no images.
        cache_name: the name of the cache in the records of the spool.
        log: writes a log line; called with level, message and the arguments of the message.
        blocked: which images the cache blocks.
    """

    def __init__(
        self,
        spool: Spool | None,
        cache_name: str,
        log: Callable[..., None],
        blocked: BlockedHashes,
    ) -> None:
        self._spool = spool
        self._blocked = blocked
        self._cache_name = cache_name
        self._log = log
        self._has_warned = False

    async def put(self, record: Record) -> Entry:
        """Write a record into the spool, and return its entry; the first failure is a warning.

        Raises:
            UnavailableError: the spool is full.
            OSError: the disk is full or fails.
        """
        assert self._spool is not None  # noqa: S101 - see the caller
        try:
            await asyncio.to_thread(self._spool.put, record)
        except (OSError, UnavailableError) as error:
            level = logging.DEBUG if self._has_warned else logging.WARNING
            self._has_warned = True
            self._log(
                level, "An image is neither in the cache nor in the spool: %s", reason_of(error)
            )
            raise
        return await asyncio.to_thread(record.entry)

    async def waiting(self, keys: Iterable[str], bucket: str) -> dict[str, str]:
        """Return the names of the records that the spool has of these keys."""
        if self._spool is None:
            return {}
        index = self._spool.index
        if not index.is_fresh:
            await asyncio.to_thread(index.scan)
        return index.find(keys, bucket, self._cache_name)

    async def entries(self, waiting: dict[str, str]) -> dict[str, Entry]:
        """Return the entries of records that are still there, and mark those that are blocked.

        Args:
            waiting: the names of the records, by key.
        """
        found = await asyncio.to_thread(self._read_entries, waiting) if waiting else {}
        blocked = await self._blocked.known() if found else frozenset()
        return {
            key: {**entry, "blocked": True} if entry["content_hash"] in blocked else entry
            for key, entry in found.items()
        }

    async def bytes_of(self, entry: Entry, bucket: str) -> bytes | None:
        """Return the bytes of an entry's image; None if it does not wait in the spool."""
        for name in (await self.waiting([entry["key"]], bucket)).values():
            data = await asyncio.to_thread(self._read_data, name, entry["content_hash"])
            if data is not None:
                return data
        return None

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
