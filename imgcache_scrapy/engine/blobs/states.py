"""The state of one blob: is it sound, and if it is not, what is wrong with it?"""

from errno import EMFILE, ENFILE, ENOMEM
from typing import Literal

from imgcache_scrapy.core.entry import content_hash_of
from imgcache_scrapy.core.errors import UnavailableError
from imgcache_scrapy.engine.blobs.store import BlobStore

BlobState = Literal["sound", "missing", "truncated", "altered", "unreadable"]

# The trouble of this process or machine, which says nothing about a blob.
_OF_THE_MACHINE = {EMFILE, ENFILE, ENOMEM}


def examine(blobs: BlobStore, content_hash: str, size: int = 0) -> tuple[BlobState, bytes | None]:
    """Read a blob and check its hash.

    A state other than `sound` may also mean that the whole storage fails: see
    `ImageCache.check_blobs`.

    Args:
        blobs: the store that has the blob.
        content_hash: the expected hash.
        size: the expected number of bytes; 0 if it does not matter how the bytes are wrong.

    Returns:
        The state of the blob, and its bytes; None if there are none that can be read.

    Raises:
        UnavailableError: this process cannot read any blob.
    """
    try:
        data = blobs.get(content_hash)
    except UnavailableError as error:
        if getattr(error.__cause__, "errno", None) in _OF_THE_MACHINE:
            raise
        return "unreadable", None
    return _state_of(content_hash, size, data), data


def _state_of(content_hash: str, size: int, data: bytes | None) -> BlobState:
    if data is None:
        return "missing"
    if content_hash_of(data) == content_hash:
        return "sound"
    return "truncated" if len(data) < size else "altered"
