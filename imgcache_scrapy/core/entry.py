"""Entry: what the cache knows about an image and one capture of it; also content hashes."""

import hashlib
import re
from typing import NotRequired, TypedDict

from imgcache_scrapy.core.limits import HASH_PATTERN

THUMBNAILS = "thumbnails"
"""The folder of the thumbnails, beside the blobs."""
UNKNOWN_TYPE = "application/octet-stream"
"""The content type of bytes whose format is not known."""


class Entry(TypedDict):
    """An image seen through one capture, "this URL gave this image then".

    Attributes:
        url: the captured URL, as it was requested.
        key: the cache key of the URL, which lookups compare.
        content_hash: BLAKE2b-256 of the bytes, 64 hex digits.
        content_type: detected from the first bytes, for example `image/jpeg`.
        file_size_bytes: number of bytes.
        original_filename: the name given when storing, else the last part of the URL's path.
        width: width as displayed, in pixels; None if the picture was not decoded.
        height: height as displayed, in pixels; None if the picture was not decoded.
        perceptual_hash: 64-bit DCT hash, 16 hex digits; None if the picture was not decoded, or has
            pixels of more than 8 bits, which are not hashed.
        client_name: name of the client that stored it.
        lookup_time: when the URL was fetched, ISO 8601, UTC.
        created_at: when the capture was made, ISO 8601, UTC.
        bucket: the name space of the capture.
        headers: headers of the site's response, see `KEPT_HEADERS`; missing if it is not known.
        final_url: the URL that gave the image after redirects; missing if it is `url`.
        accept: the header `Accept` of the request; missing if the response does not vary by it.
        converted: True if a program made the image from that of the site, as Scrapy's
            ImagesPipeline does; missing if not.
        blocked: True if the image is blocked; missing if it is not.
        damaged: only in lists: True if the bytes of the image are damaged; missing if not.
        created: only in the result of `store`: whether the image is new to the cache.
        paths: only in the result of `suggest_blocked`: the number of different paths of its URLs.
        hosts: only in the result of `suggest_blocked`: the number of different hosts of its URLs.
        distance: only in the result of `similar`, and of a crawl for a changed image: number of
            bits of the perceptual hash that differ, 0 to 64.
        stale: only in a crawl: True if the image is too old, but the site did not give a new one.
        changed: only in a crawl: True if the URL had another image before.
        previous_content_hash: only in a crawl: the content hash of that image.
    """

    url: str
    key: str
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
    headers: NotRequired[dict[str, str]]
    final_url: NotRequired[str]
    accept: NotRequired[str]
    converted: NotRequired[bool]
    blocked: NotRequired[bool]
    damaged: NotRequired[bool]
    created: NotRequired[bool]
    paths: NotRequired[int]
    hosts: NotRequired[int]
    distance: NotRequired[int]
    stale: NotRequired[bool]
    changed: NotRequired[bool]
    previous_content_hash: NotRequired[str]


def content_hasher(data: bytes = b"") -> "hashlib.blake2b":
    """Return an object that computes a content hash part by part; its `hexdigest` is the hash."""
    return hashlib.blake2b(data, digest_size=32)


def content_hash_of(data: bytes) -> str:
    """Compute the content hash of an image: BLAKE2b-256 of its bytes, 64 hex digits."""
    return content_hasher(data).hexdigest()


def is_content_hash(text: object) -> bool:
    """Return whether a text is a content hash: 64 hex digits in lower case."""
    return isinstance(text, str) and re.fullmatch(HASH_PATTERN, text) is not None


def blob_key(content_hash: str) -> str:
    """Return the key of an image's blob, `ab/cdef…`; the first part spreads blobs over folders."""
    return f"{content_hash[:2]}/{content_hash[2:]}"


def thumbnail_key(content_hash: str) -> str:
    """Return the key of an image's thumbnail beside the blobs, `thumbnails/ab/cdef…`."""
    return f"{THUMBNAILS}/{blob_key(content_hash)}"


def hash_of_key(key: str) -> str | None:
    """Return the content hash in a blob's key; None if the text is not such a key."""
    content_hash = key.replace("/", "", 1)
    return content_hash if is_content_hash(content_hash) and key[2] == "/" else None
