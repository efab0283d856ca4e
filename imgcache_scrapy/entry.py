"""The shapes that travel: an entry is an image seen through one capture."""

import hashlib
import re

# Pydantic, which describes entries in the API, cannot read typing's own before Python 3.12.
from typing_extensions import NotRequired, TypedDict  # noqa: UP035

HASH_PATTERN = r"^[0-9a-f]{64}$"
PERCEPTUAL_HASH_PATTERN = r"^[0-9a-f]{16}$"
MAX_DISTANCE = 64


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
    """Name an image: the BLAKE2b-256 of its bytes, as 64 hex digits."""
    return hashlib.blake2b(data, digest_size=32).hexdigest()


def is_content_hash(text: object) -> bool:
    """Tell whether this is a content hash: 64 hex digits in lower case."""
    return isinstance(text, str) and re.fullmatch("[0-9a-f]{64}", text) is not None


def blob_key(content_hash: str) -> str:
    """Name the blob of an image: `ab/cdef…`, so that no folder holds more than its share."""
    return f"{content_hash[:2]}/{content_hash[2:]}"
