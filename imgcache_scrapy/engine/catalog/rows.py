"""What a row of the catalog says: images, captures, and the entry that both make."""

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from imgcache_scrapy.core.entry import Entry
from imgcache_scrapy.engine.catalog.similarity import BAND_COUNT, bands

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Image(NamedTuple):
    """What the catalog knows of an image.

    Attributes:
        content_hash: BLAKE2b-256 of the bytes, 64 hex digits.
        content_type: by the bytes' magic.
        file_size_bytes: length of the bytes.
        width: pixels as displayed, None where not decoded.
        height: pixels as displayed, None where not decoded.
        perceptual_hash: 16 hex digits, None where not decoded.
        decode_error: a `DecodeError`, None where decoded or not decoded yet.
    """

    content_hash: str
    content_type: str
    file_size_bytes: int
    width: int | None
    height: int | None
    perceptual_hash: str | None
    decode_error: str | None = None

    def row(self) -> dict[str, Any]:
        """Give the row of the image, sound and with the bands of its perceptual hash."""
        found: list[Any] = [None] * BAND_COUNT
        if self.perceptual_hash is not None:
            found = bands(int(self.perceptual_hash, 16))
        values = {f"band{i}": value for i, value in enumerate(found)}
        return self._asdict() | values | {"damaged": False}


class Capture(NamedTuple):
    """One observation, "this URL gave this image then", to be recorded.

    Attributes:
        url: the cache key of the URL.
        bucket: the name space.
        client_name: who saw it.
        original_filename: a hint.
        lookup_time: when it was seen.
    """

    url: str
    bucket: str
    client_name: str
    original_filename: str | None
    lookup_time: datetime

    def row(self) -> dict[str, Any]:
        """Give what the capture alone tells of its row."""
        seen = microseconds(self.lookup_time)
        return self._asdict() | {"url_digest": digest(self.url), "lookup_time": seen}


def digest(url: str) -> bytes:
    """Name a URL by 128 bits: PostgreSQL indexes no row over 2,704 bytes."""
    return hashlib.blake2b(url.encode(), digest_size=16).digest()


def microseconds(time: datetime) -> int:
    """Give a time as it stands in a row: since 1970, in UTC."""
    return (time - _EPOCH) // timedelta(microseconds=1)


def entry_of(row: Mapping[Any, Any]) -> Entry:
    """Make the entry of a row that joins a capture with its image."""
    return {
        "url": row["url"],
        "content_hash": row["content_hash"],
        "content_type": row["content_type"],
        "file_size_bytes": row["file_size_bytes"],
        "original_filename": row["original_filename"],
        "width": row["width"],
        "height": row["height"],
        "perceptual_hash": row["perceptual_hash"],
        "client_name": row["client_name"],
        "lookup_time": _iso(row["lookup_time"]),
        "created_at": _iso(row["created_at"]),
        "bucket": row["bucket"],
    }


def _iso(microseconds: int) -> str:
    return (_EPOCH + timedelta(microseconds=microseconds)).isoformat()
