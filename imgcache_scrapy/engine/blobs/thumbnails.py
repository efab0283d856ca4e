"""KeptThumbnails: the thumbnails that are kept beside the blobs, within a bound."""

import hashlib
from collections.abc import Iterator
from threading import Lock
from typing import NamedTuple

from imgcache_scrapy.core.entry import THUMBNAILS, thumbnail_key
from imgcache_scrapy.engine.blobs.store import BlobStore, Found
from imgcache_scrapy.engine.decoding.messages import DecodeError

DEFAULT_MAX_BYTES = 1_000_000_000
"""The bound unless `IMGCACHE_MAX_THUMBNAIL_BYTES` says another: about 100,000 thumbnails."""

# The first byte of a file; another one is that of a later version.
_PICTURE, _FAILURE = b"1", b"0"
_DIGEST_SIZE = 16
# By the first two digits of the hashes, which spread them evenly. So each folder has its part of
# the bound, and a process lists only one small folder to find its oldest thumbnails.
_FOLDERS = 256
# The part of a folder that a process may write before it lists it again: others write, too.
_UNLISTED_PART = 16


class Kept(NamedTuple):
    """What is kept for an image.

    Attributes:
        thumbnail: a WebP; empty if none can be made.
        error: why none can be made; None if there is one.
    """

    thumbnail: bytes
    error: DecodeError | None = None


class KeptThumbnails:
    """Thumbnails by the hash of their image; where there are too many, the oldest go.

    What is kept need not be durable: a thumbnail that is lost or damaged is made again.

    Args:
        max_bytes: maximum size of all together; 0 keeps none.
    """

    def __init__(self, max_bytes: int = DEFAULT_MAX_BYTES) -> None:
        self._folder_bytes = max_bytes // _FOLDERS
        self._free: dict[str, int] = {}
        self._lock = Lock()

    def get(self, blobs: BlobStore, content_hash: str) -> Kept | None:
        """Return what is kept for an image; None if there is nothing, or it is damaged.

        Raises:
            UnavailableError: the storage fails.
        """
        data = blobs.get_aside(thumbnail_key(content_hash))
        if data is None or data[:_DIGEST_SIZE] != _digest(content_hash, data[_DIGEST_SIZE:]):
            return None
        kind, content = data[_DIGEST_SIZE : _DIGEST_SIZE + 1], data[_DIGEST_SIZE + 1 :]
        if kind == _PICTURE:
            return Kept(content)
        # A later version may know more of them.
        errors = [error for error in DecodeError if _FAILURE + error.encode() == kind + content]
        return Kept(b"", errors[0]) if errors else None

    def put(self, blobs: BlobStore, content_hash: str, kept: Kept) -> None:
        """Keep a thumbnail, or the reason why there is none; remove the oldest if need be.

        Raises:
            UnavailableError: the storage fails.
            ReadOnlyError: the storage can only be read.
        """
        content = (
            _PICTURE + kept.thumbnail if kept.error is None else _FAILURE + kept.error.encode()
        )
        data = _digest(content_hash, content) + content
        if len(data) <= self._folder_bytes:
            key = thumbnail_key(content_hash)
            with self._lock:
                self._make_room(blobs, key.rpartition("/")[0], len(data))
            blobs.put_aside(key, data)

    def _make_room(self, blobs: BlobStore, folder: str, size: int) -> None:
        if self._free.get(folder, 0) < size:
            oldest_first = sorted(blobs.scan_aside(folder), key=lambda found: found.modified)
            total = sum(found.size for found in oldest_first)
            # A little more, so that not each thumbnail has to remove others.
            unlisted = max(size, self._folder_bytes // _UNLISTED_PART)
            removed = []
            for found in oldest_first:
                if total + unlisted <= self._folder_bytes:
                    break
                removed.append(found.key)
                total -= found.size
            blobs.discard_many(removed)
            self._free[folder] = unlisted
        self._free[folder] -= size


def scan_thumbnails(blobs: BlobStore) -> Iterator[Found]:
    """List all files among the thumbnails, in no order.

    Raises:
        UnavailableError: the storage fails.
    """
    for number in range(_FOLDERS):
        yield from blobs.scan_aside(f"{THUMBNAILS}/{number:02x}")


def _digest(content_hash: str, content: bytes) -> bytes:
    return hashlib.blake2b(content_hash.encode() + content, digest_size=_DIGEST_SIZE).digest()
