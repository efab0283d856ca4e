"""Catalogs of schema 4, created by SQL as the version before takedowns did."""

import hashlib
from pathlib import Path
from typing import Any

from sqlalchemy import make_url

from tests.support import schema_1, schema_3
from tests.support.schema_1 import connected

_UPGRADE = (
    *(f'ALTER TABLE capture ADD COLUMN "{name}" TEXT' for name in ("key", "host", "headers")),
    "ALTER TABLE capture ADD COLUMN final_url TEXT",
    "ALTER TABLE capture ADD COLUMN accept TEXT",
    "CREATE INDEX ix_capture_host ON capture (host) WHERE host IS NOT NULL",
    """CREATE TABLE failure ({digest} NOT NULL, bucket TEXT NOT NULL, url TEXT NOT NULL,
        host TEXT NOT NULL, reason VARCHAR(32) NOT NULL, http_status INTEGER,
        failed_at BIGINT NOT NULL, expires_at BIGINT NOT NULL, PRIMARY KEY (digest))""",
    "CREATE INDEX ix_failure_host ON failure (host)",
    "CREATE INDEX ix_failure_failed_at ON failure (failed_at)",
    "CREATE INDEX ix_failure_expires_at ON failure (expires_at)",
    """CREATE TABLE blocked (content_hash VARCHAR(64) NOT NULL, reason TEXT NOT NULL,
        created_at BIGINT NOT NULL, PRIMARY KEY (content_hash))""",
    "UPDATE imgcache_schema SET number = 4",
)
_CAPTURE = """INSERT INTO capture (url_digest, bucket, url, content_hash, client_name, lookup_time,
    created_at, "key", host, headers) VALUES (?, 'b', ?, ?, 'me', ?, ?, ?, ?, ?)"""
_FAILURE = "INSERT INTO failure VALUES (?, 'b', ?, 'h.example', 'http_404', 404, ?, ?)"
_BLOCKED = "INSERT INTO blocked VALUES (?, 'no image', ?)"
_COLUMNS = {
    "image": "content_hash, content_type, file_size_bytes, width, height, perceptual_hash, band0,"
    " band1, band2, band3, band4, damaged, decode_error, decode_attempts",
    "capture": "id, url_digest, bucket, url, content_hash, original_filename, client_name,"
    ' lookup_time, created_at, "key", host, headers, final_url, accept',
    "failure": "digest, bucket, url, host, reason, http_status, failed_at, expires_at",
    "blocked": "content_hash, reason, created_at",
}


def make(database_url: str, count: int, blobs: Path) -> None:
    """Create a catalog in which each capture has an image and a key of its own.

    Args:
        database_url: URL of an empty database.
        count: number of captures, failures and blocked images.
        blobs: the folder for the blobs.
    """
    is_sqlite = make_url(database_url).get_backend_name() == "sqlite"
    images = [schema_3.OldCapture(url_of(n), b"GIF89a %d" % n) for n in range(count)]
    schema_3.make(database_url, images, blobs)
    with connected(database_url) as connection:
        for statement in _UPGRADE:
            digest = "digest BLOB" if is_sqlite else "digest BYTEA"
            connection.execute(statement.format(digest=digest))
        cursor = connection.cursor()
        for statement, rows in (
            ("DELETE FROM capture WHERE url_digest <> ?", [(b"",)]),
            (_CAPTURE, [_capture_row(n, each.data) for n, each in enumerate(images)]),
            (_FAILURE, [(_digest(url_of(n)), url_of(n), n, 2**52) for n in range(count)]),
            (_BLOCKED, [(f"{n:064}", n) for n in range(count)]),
        ):
            cursor.executemany(statement if is_sqlite else statement.replace("?", "%s"), rows)


def rows(database_url: str) -> dict[str, list[tuple[Any, ...]]]:
    """Read everything that schema 4 has in a catalog."""
    with schema_1.connected(database_url) as connection:
        return {
            name: list(connection.execute(f"SELECT {columns} FROM {name} ORDER BY 1"))
            for name, columns in _COLUMNS.items()
        }


def url_of(number: int) -> str:
    """Return the URL of a capture; its key is another one."""
    return f"http://h{number % 3}.example/{number}.gif?b=1&a=2"


def _capture_row(number: int, data: bytes) -> tuple[Any, ...]:
    url, name = url_of(number), hashlib.blake2b(data, digest_size=32).hexdigest()
    key = url.replace("b=1&a=2", "a=2&b=1")
    seen = schema_3.NOON + number
    headers = '{"ETag": "1"}'
    return _digest(key), url, name, seen, seen, key, f"h{number % 3}.example", headers


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=16).digest()
