"""The shapes that travel: an entry is an image seen through one capture."""

import hashlib
import re
from typing import NotRequired, TypedDict

from imgcache_scrapy.core.limits import HASH_PATTERN

UNKNOWN_TYPE = "application/octet-stream"
"""The content type of bytes in no known format."""


class Entry(TypedDict):
    """An image seen through one capture, "this URL gave this image then".

    Attributes:
        url: the captured URL.
        content_hash: BLAKE2b-256 of the bytes, 64 hex digits.
        content_type: by the bytes' magic, such as `image/jpeg`.
        file_size_bytes: length of the bytes.
        original_filename: a hint from the capture, else the last part of the URL's path.
        width: pixels as displayed, None where the picture was not decoded.
        height: pixels as displayed, None where the picture was not decoded.
        perceptual_hash: 64-bit DCT hash, 16 hex digits, None where the picture was not decoded.
        client_name: who stored it.
        lookup_time: when it was fetched, ISO 8601, UTC.
        created_at: when the capture was made, ISO 8601, UTC.
        bucket: the capture's name space.
        created: in an answer to `store`: whether the image is new to the cache.
        distance: in an answer to `similar`: differing bits of the perceptual hash, 0 to 64.
    """

    url: str
    content_hash: str
    content_type: str
    file_size_bytes: int
    original_filename: str | None
    width: int | None
    height: int | None
    perceptual_hash: str | None
    client_name: str
    lookup_time: str
    created_at: str
    bucket: NotRequired[str]
    created: NotRequired[bool]
    distance: NotRequired[int]


def content_hash_of(data: bytes) -> str:
    """Compute the name of an image: the BLAKE2b-256 of its bytes, as 64 hex digits."""
    return hashlib.blake2b(data, digest_size=32).hexdigest()


def is_content_hash(text: object) -> bool:
    """Return whether this is a content hash: 64 hex digits in lower case."""
    return isinstance(text, str) and re.fullmatch(HASH_PATTERN, text) is not None


def blob_key(content_hash: str) -> str:
    """Return the key of an image's blob, `ab/cdef…`: its first part spreads them over folders."""
    return f"{content_hash[:2]}/{content_hash[2:]}"


def hash_of_key(key: str) -> str | None:
    """Return the content hash of a blob's key, None if it is none; the inverse of `blob_key`."""
    content_hash = key.replace("/", "", 1)
    return content_hash if is_content_hash(content_hash) and key[2] == "/" else None
