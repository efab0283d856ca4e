"""The shapes that travel: an entry is an image seen through one capture."""

import hashlib
import re
from typing import NotRequired, TypedDict

from imgcache_scrapy.core.errors import ConfigurationError, InvalidRequestError
from imgcache_scrapy.core.limits import HASH_PATTERN, MAX_LIMIT, MAX_TEXT

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
    """Name an image: the BLAKE2b-256 of its bytes, as 64 hex digits."""
    return hashlib.blake2b(data, digest_size=32).hexdigest()


def is_content_hash(text: object) -> bool:
    """Tell whether this is a content hash: 64 hex digits in lower case."""
    return isinstance(text, str) and re.fullmatch(HASH_PATTERN, text) is not None


def checked_text(what: str, text: object) -> str:
    """Refuse what no catalog can keep as text.

    Args:
        what: names it in the message.
        text: the text.

    Raises:
        InvalidRequestError: no string, longer than `MAX_TEXT`, with a NUL character or a lone
            surrogate.
    """
    if not isinstance(text, str):
        raise InvalidRequestError(f"{what} must be a string, got {type(text).__name__}")
    if len(text) > MAX_TEXT:
        raise InvalidRequestError(f"{what} must not be longer than {MAX_TEXT} characters")
    if "\0" in text or not _is_encodable(text):
        raise InvalidRequestError(
            f"{what} must contain neither a NUL character nor a lone surrogate: {text!r:.80}"
        )
    return text


def checked_limit(limit: int | None) -> int | None:
    """Refuse what is no number of entries.

    Raises:
        InvalidRequestError: neither None nor a whole number from 1 to `MAX_LIMIT`.
    """
    if limit is None or (isinstance(limit, int) and 1 <= limit <= MAX_LIMIT):
        return limit
    raise InvalidRequestError(f"a limit is a whole number from 1 on, not {limit!r:.100}")


def checked_token(token: str | None) -> str | None:
    """Refuse what no header can carry.

    Raises:
        ConfigurationError: a character that is not printable ASCII.
    """
    if token is not None and not (token.isascii() and token.isprintable()):
        raise ConfigurationError("a token is made of printable ASCII characters")
    return token


def blob_key(content_hash: str) -> str:
    """Name the blob of an image: `ab/cdef…`, so that no folder holds more than its share."""
    return f"{content_hash[:2]}/{content_hash[2:]}"


def hash_of_key(key: str) -> str | None:
    """Tell whose blob has this name, None where it is no blob's; the inverse of `blob_key`."""
    content_hash = key.replace("/", "", 1)
    return content_hash if is_content_hash(content_hash) and key[2] == "/" else None


def _is_encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
