"""Convert between rows of the catalog and images, captures and entries."""

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

from imgcache_scrapy.core.blocked import BlockedImage
from imgcache_scrapy.core.entry import Entry
from imgcache_scrapy.core.response_info import NO_RESPONSE, ResponseInfo, is_converted
from imgcache_scrapy.core.times import iso, microseconds
from imgcache_scrapy.core.urls import host_of
from imgcache_scrapy.engine.catalog.similarity import BAND_COUNT, bands

MICROSECONDS_A_DAY = 86_400_000_000

DIGEST_BYTES = 16
"""The size of a digest."""


class Image(NamedTuple):
    """What the catalog knows of an image.

    Attributes:
        content_hash: BLAKE2b-256 of the bytes, 64 hex digits.
        content_type: recognised from the first bytes.
        file_size_bytes: length of the bytes.
        width: in pixels, as displayed; None if not decoded.
        height: in pixels, as displayed; None if not decoded.
        perceptual_hash: 16 hex digits; None if not decoded.
        decode_error: a `DecodeError`; None if decoded, or not decoded yet.
    """

    content_hash: str
    content_type: str
    file_size_bytes: int
    width: int | None
    height: int | None
    perceptual_hash: str | None
    decode_error: str | None = None

    def row(self) -> dict[str, Any]:
        """Return the row of the image, not damaged, with the bands of its hash, used today."""
        found: list[Any] = [None] * BAND_COUNT
        if self.perceptual_hash is not None:
            found = bands(int(self.perceptual_hash, 16))
        values = {f"band{i}": value for i, value in enumerate(found)}
        return self._asdict() | values | {"damaged": False, "last_used": today()}


class Capture(NamedTuple):
    """One observation to record: this URL gave this image at this time.

    Attributes:
        url: the URL.
        bucket: the name space of the capture.
        client_name: the name of the client that fetched the image.
        original_filename: the file name of the image; None if unknown.
        lookup_time: when the image was fetched.
        response: what the site said.
        other_key: the cache key of the URL; None if it is the URL itself.
    """

    url: str
    bucket: str
    client_name: str
    original_filename: str | None
    lookup_time: datetime
    response: ResponseInfo = NO_RESPONSE
    other_key: str | None = None

    @property
    def key(self) -> str:
        """The cache key of the URL."""
        return self.other_key or self.url

    def row(self) -> dict[str, Any]:
        """Return the columns of the row that do not depend on the image."""
        headers, final_url, accept = self.response
        return {
            "url": self.url,
            "url_digest": digest(self.key),
            "key": self.other_key,
            "host": host_of(self.url),
            "bucket": self.bucket,
            "client_name": self.client_name,
            "original_filename": self.original_filename,
            "lookup_time": microseconds(self.lookup_time),
            "headers": json.dumps(headers) if headers else None,
            "final_url": final_url,
            "accept": accept,
        }


def digest(key: str) -> bytes:
    """Return the 128-bit digest of a key: PostgreSQL cannot index rows over 2,704 bytes."""
    return hashlib.blake2b(key.encode(), digest_size=DIGEST_BYTES).digest()


def failure_digest(bucket: str, url: str) -> bytes:
    """Return the digest of a failure: of its bucket and its URL, which have no NUL character."""
    return digest(f"{bucket}\0{url}")


def now() -> int:
    """Return the time of the cache's clock, as rows store times."""
    return microseconds(datetime.now(UTC))


def today() -> int:
    """Return the day of the cache's clock, as rows store days: days since 1970, UTC."""
    return now() // MICROSECONDS_A_DAY


def seen_at(row: Mapping[Any, Any], at: int) -> int:
    """Return when a capture was made, which orders captures; see `tables.seen_at`.

    A lookup time ahead of the cache's clock is that of a wrong clock: the creation time replaces
    it if it is earlier.

    Args:
        row: the row of a capture.
        at: the time of the cache's clock.
    """
    seen: int = row["lookup_time"]
    return seen if seen <= at else min(seen, row["created_at"])


def blocked_image(content_hash: str, reason: str, created_at: int) -> BlockedImage:
    """Return a blocked image from the columns of its row."""
    return {"content_hash": content_hash, "reason": reason, "created_at": iso(created_at)}


def entry_of(row: Mapping[Any, Any]) -> Entry:
    """Return the entry of a row that joins a capture with its image."""
    seen: int = row["lookup_time"]
    if seen > row["created_at"]:  # Otherwise the clock, which takes longer, changes nothing.
        seen = seen_at(row, now())
    entry: Entry = {
        "url": row["url"],
        "key": row["key"] or row["url"],
        "content_hash": row["content_hash"],
        "content_type": row["content_type"],
        "file_size_bytes": row["file_size_bytes"],
        "original_filename": row["original_filename"],
        "width": row["width"],
        "height": row["height"],
        "perceptual_hash": row["perceptual_hash"],
        "client_name": row["client_name"],
        "lookup_time": iso(seen),
        "created_at": iso(row["created_at"]),
        "bucket": row["bucket"],
    }
    if row["headers"]:
        entry["headers"] = json.loads(row["headers"])
        if is_converted(entry["headers"]):
            entry["converted"] = True
    if row["final_url"]:
        entry["final_url"] = row["final_url"]
    if row["accept"] is not None:
        entry["accept"] = row["accept"]
    if row.get("blocked"):
        entry["blocked"] = True
    if row.get("damaged"):
        entry["damaged"] = True
    return entry
