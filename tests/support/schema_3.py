"""Catalogs of schema 3, created by SQL as the version before cache keys did."""

import hashlib
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import make_url

from imgcache_scrapy.engine.blobs.store import OWNER_KEY
from tests.support import schema_1
from tests.support.schema_1 import connected

CACHE_ID = "3" * 32
NOON = 1_780_315_200_000_000
"""The lookup time of the first capture, in microseconds; each further one is a second later."""

_UPGRADE = (
    "ALTER TABLE imgcache_schema ADD COLUMN cache_id VARCHAR(32)",
    "ALTER TABLE imgcache_schema ADD COLUMN adopts_blobs BOOLEAN",
    "ALTER TABLE image ADD COLUMN decode_error VARCHAR(16)",
    "ALTER TABLE image ADD COLUMN decode_attempts INTEGER DEFAULT '0' NOT NULL",
    """CREATE INDEX ix_image_not_decoded ON image (content_hash)
        WHERE width IS NULL AND decode_error IS NULL""",
    f"UPDATE imgcache_schema SET number = 3, cache_id = '{CACHE_ID}', adopts_blobs = false",
)
_IMAGE = """INSERT INTO image (content_hash, content_type, file_size_bytes, width, height, damaged)
    VALUES (?, 'image/png', ?, 640, 480, false)"""
_CAPTURE = """INSERT INTO capture (url_digest, bucket, url, content_hash, client_name, lookup_time,
    created_at) VALUES (?, '', ?, ?, 'old', ?, ?)"""
_ROWS_PER_INSERT = 50_000


class OldCapture(NamedTuple):
    """A capture to create: this URL gave this image.

    Attributes:
        url: the URL, which was the key, too.
        data: the bytes of the image.
    """

    url: str
    data: bytes


def make(database_url: str, captures: Iterable[OldCapture], blobs: Path) -> None:
    """Create a catalog and its blobs; captures are a second apart, in this order.

    Args:
        database_url: URL of an empty database.
        captures: the captures; few different images.
        blobs: the folder for the blobs.
    """
    is_sqlite = make_url(database_url).get_backend_name() == "sqlite"
    schema_1.make(database_url)
    with connected(database_url) as connection:
        for statement in _UPGRADE:
            connection.execute(statement)
        cursor = connection.cursor()
        mark = "?" if is_sqlite else "%s"
        known: dict[bytes, str] = {}
        numbered = enumerate(captures)
        while batch := list(islice(numbered, _ROWS_PER_INSERT)):
            cursor.execute("BEGIN")
            new = {each.data for _, each in batch} - known.keys()
            known |= {data: hashlib.blake2b(data, digest_size=32).hexdigest() for data in new}
            images = [(known[data], len(data)) for data in new]
            cursor.executemany(_IMAGE.replace("?", mark), images)
            rows = [_row(number, each, known[each.data]) for number, each in batch]
            cursor.executemany(_CAPTURE.replace("?", mark), rows)
            cursor.execute("COMMIT")
        if is_sqlite:
            connection.execute("INSERT INTO capture_url(rowid, url) SELECT id, url FROM capture")
        else:
            # The server of the tests does not do this by itself, as others do.
            connection.execute("ANALYZE")
    schema_1.put({name: data for data, name in known.items()}, blobs)
    (blobs / OWNER_KEY).write_text(CACHE_ID)


def _row(number: int, capture: OldCapture, name: str) -> tuple[object, ...]:
    digest = hashlib.blake2b(capture.url.encode(), digest_size=16).digest()
    seen = NOON - 10**12 + number * 10**6
    return digest, capture.url, name, seen, seen
