"""Maintenance of a cache in use: verify every image, and remove files that no image owns."""

import re
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from typing import Literal, NamedTuple

from imgcache_scrapy.core.batches import batches
from imgcache_scrapy.core.entry import hash_of_key
from imgcache_scrapy.core.errors import ConfigurationError, ReadOnlyError
from imgcache_scrapy.engine.blobs.states import BlobState, examine
from imgcache_scrapy.engine.blobs.store import Found
from imgcache_scrapy.engine.blobs.thumbnails import scan_thumbnails
from imgcache_scrapy.engine.cache import ImageCache
from imgcache_scrapy.engine.catalog.database import database_call
from imgcache_scrapy.engine.late_decoding import decode_next

ImageState = BlobState | Literal["healed"]
"""The result of a check. `healed`: the image was marked as damaged, but its bytes are right."""

MIN_ORPHAN_AGE = timedelta(minutes=1)
"""Younger files may belong to a store that is still running."""

_BATCH_SIZE = 500
# More threads would read faster from an object store, but each may hold an image of 100 MiB.
_READER_THREADS = 4
# The names of the temporary files of `FileBlobs` and of obstore.
_TEMPORARY_NAME = re.compile(r"([0-9a-f]{2}/[0-9a-f]{62})?#[0-9a-f]+")


class VerifyResult(NamedTuple):
    """The result of the check of one image.

    Attributes:
        content_hash: the hash of the image.
        state: what the check found.
    """

    content_hash: str
    state: ImageState


class Upkeep:
    """Checks and cleans a whole cache while other processes store and delete.

    Args:
        cache: the cache; the caller closes it.

    Attributes:
        cache: the cache.
    """

    def __init__(self, cache: ImageCache) -> None:
        self.cache = cache

    def check_whole(self) -> None:
        """Check that the catalog is whole and that the blobs are its own, before any is removed.

        Raises:
            ConfigurationError: it is not so, and nothing must be removed.
        """
        damage = self.cache.catalog.damage()
        if damage:
            raise ConfigurationError(
                f"nothing is removed, because the catalog is damaged ({damage[0]}): "
                "run `imgcache rebuild` first"
            )
        if self.cache.blobs.owner() != self.cache.catalog.cache_id:
            raise ConfigurationError(
                "nothing is removed, because the blobs belong to another catalog"
            )

    def verify(self) -> Iterator[VerifyResult]:
        """Read every image and compare its bytes with its hash.

        An image is marked as damaged if its bytes are missing or wrong, or cannot be read. The
        mark is removed from an image whose bytes are right.

        Yields:
            One result per image, in the order of the hashes.

        Raises:
            UnavailableError: the catalog or the whole storage fails; then nothing is marked.
        """
        with ThreadPoolExecutor(_READER_THREADS) as readers:
            page = self.cache.catalog.rows_after("", _BATCH_SIZE)
            while page:
                yield from readers.map(self._verify_row, page)
                page = self.cache.catalog.rows_after(page[-1][0], _BATCH_SIZE)

    def decode(self) -> Iterator[str]:
        """Decode the images that are not decoded yet; yield the hash of each that is tried.

        If the cache can only be read, none is tried.
        """
        with suppress(ReadOnlyError):
            while content_hash := decode_next(self.cache):
                yield content_hash

    def fill_keys(self) -> Iterator[int]:
        """Fill the keys and hosts of captures that versions without keys recorded.

        Others may store meanwhile. If it is interrupted, the next call goes on.

        Yields:
            The number of captures of each batch, when they are durable.
        """
        filled = True
        while filled:  # Again, because rows that a store has locked are left out.
            filled = False
            last: int | None = 0
            while last is not None:
                began = time.monotonic()
                captures, last = self.cache.catalog.fill_keys(last)
                if captures:
                    filled = True
                    yield captures
                if self.cache.catalog.file is not None:
                    # A writer of SQLite that waits sleeps up to 0.1 s, and must find it free.
                    time.sleep(time.monotonic() - began)

    def orphans(self, older_than: timedelta = MIN_ORPHAN_AGE) -> Iterator[Found]:
        """Find the orphans that crashes left: blobs and thumbnails without image, temporary files.

        Args:
            older_than: younger files are left out, because their store may still be running.
                Temporary files younger than `MIN_ORPHAN_AGE` are always left out: a store fails
                if its temporary file is removed.
        """
        now = time.time()
        candidates = (
            found for found in self.cache.blobs.scan() if _may_be_orphan(found, now, older_than)
        )
        for batch in batches(candidates, _BATCH_SIZE):
            known = self.cache.catalog.known(
                [found.content_hash for found in batch if found.content_hash]
            )
            yield from (found for found in batch if found.content_hash not in known)
        for batch in batches(scan_thumbnails(self.cache.blobs), _BATCH_SIZE):
            yield from self._without_image(batch, now - MIN_ORPHAN_AGE.total_seconds())

    def remove(self, orphan: Found) -> bool:
        """Remove an orphan.

        Returns:
            True if it was removed; False if a store has created an image for it meanwhile.
        """
        if orphan.content_hash is not None:
            return self.cache.delete_orphan(orphan.content_hash)
        self.cache.blobs.discard(orphan.key)
        return True

    def _without_image(self, thumbnails: Sequence[Found], until: float) -> Iterator[Found]:
        """Yield the files among thumbnails, up to a time, that belong to no image they may show."""
        hashes = {each: hash_of_key(each.key.partition("/")[2]) for each in thumbnails}
        names = [name for name in hashes.values() if name is not None]
        catalog = self.cache.catalog
        shown = catalog.known(names) - catalog.blocked_among(names)
        return (
            each for each, name in hashes.items() if name not in shown and each.modified <= until
        )

    def _verify_row(self, row: tuple[str, int, bool]) -> VerifyResult:
        content_hash, size, is_damaged = row
        state: ImageState = examine(self.cache.blobs, content_hash, size)[0]
        if state != "sound":
            self.cache.check_blobs()
        if is_damaged == (state == "sound"):  # The mark in the catalog may be wrong.
            with suppress(ReadOnlyError):
                state = self._recheck_and_mark(content_hash, size)
        return VerifyResult(content_hash, state)

    @database_call
    def _recheck_and_mark(self, content_hash: str, size: int) -> ImageState:
        # Read again under the lock: a delete and a store may have run during the first read.
        with self.cache.catalog.exclusive([content_hash]) as transaction:
            if not transaction.has_image(content_hash):
                return "sound"
            state = examine(self.cache.blobs, content_hash, size)[0]
            if state != "sound":
                self.cache.check_blobs()
                transaction.mark_damaged(content_hash)
            elif transaction.is_damaged(content_hash):
                transaction.mark_sound(content_hash)
                return "healed"
            return state


def _may_be_orphan(found: Found, now: float, older_than: timedelta) -> bool:
    """Return whether this is a blob or a temporary file, and old enough."""
    if found.content_hash is None:
        if not _TEMPORARY_NAME.fullmatch(found.key):
            return False
        older_than = max(older_than, MIN_ORPHAN_AGE)
    return now - found.modified >= older_than.total_seconds()
