"""Create a cache as the first release did: schema 1, without ids and without Alembic.

The SQL is frozen: it is what that release sent to the database, and must not follow the code.
"""

import hashlib
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy import make_url

_COMMON = """
    CREATE TABLE imgcache_schema (number INTEGER NOT NULL);
    CREATE TABLE image (content_hash VARCHAR(64) NOT NULL, content_type VARCHAR(64) NOT NULL,
        file_size_bytes BIGINT NOT NULL, width INTEGER, height INTEGER,
        perceptual_hash VARCHAR(16), band0 INTEGER, band1 INTEGER, band2 INTEGER, band3 INTEGER,
        band4 INTEGER, damaged BOOLEAN NOT NULL, PRIMARY KEY (content_hash));
    CREATE INDEX ix_image_band2 ON image (band2);
    CREATE INDEX ix_image_band0 ON image (band0);
    CREATE INDEX ix_image_band1 ON image (band1);
    CREATE INDEX ix_image_band3 ON image (band3);
    CREATE INDEX ix_image_band4 ON image (band4);
    {capture};
    CREATE INDEX ix_capture_newest_first ON capture (lookup_time DESC, id DESC);
    CREATE INDEX ix_capture_content_hash ON capture (content_hash);
    CREATE INDEX ix_capture_url_digest ON capture (url_digest);
    INSERT INTO imgcache_schema (number) VALUES (1);
"""
_CAPTURE = {
    "sqlite": """CREATE TABLE capture (id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
        url_digest BLOB NOT NULL, bucket TEXT NOT NULL, url TEXT NOT NULL,
        content_hash VARCHAR(64) NOT NULL, original_filename TEXT, client_name TEXT NOT NULL,
        lookup_time BIGINT NOT NULL, created_at BIGINT NOT NULL,
        FOREIGN KEY(content_hash) REFERENCES image (content_hash))""",
    "postgresql": """CREATE TABLE capture (id BIGSERIAL NOT NULL,
        url_digest BYTEA NOT NULL, bucket TEXT NOT NULL, url TEXT NOT NULL,
        content_hash VARCHAR(64) NOT NULL, original_filename TEXT, client_name TEXT NOT NULL,
        lookup_time BIGINT NOT NULL, created_at BIGINT NOT NULL, PRIMARY KEY (id),
        FOREIGN KEY(content_hash) REFERENCES image (content_hash))""",
}
_URL_INDEX = """CREATE VIRTUAL TABLE IF NOT EXISTS capture_url
    USING fts5(url, content='', detail=none, tokenize='trigram case_sensitive 1')"""
_INDEX_URLS = "INSERT INTO capture_url(rowid, url) SELECT id, url FROM capture WHERE id <= ?"
_IMAGE = "INSERT INTO image VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_CAPTURED = """INSERT INTO capture (url_digest, bucket, url, content_hash, original_filename,
    client_name, lookup_time, created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"""

BUCKETS = ("", "one", "two")
_NOON = 1_780_315_200_000_000


@contextmanager
def connected(database_url: str) -> Iterator[Any]:
    """Connect to a database without code of the cache, in autocommit mode."""
    url = make_url(database_url)
    if url.get_backend_name() == "sqlite":
        database = sqlite3.connect(url.database or "", isolation_level=None)
        try:
            yield database
        finally:
            database.close()
    else:
        with psycopg.connect(
            host=url.query["host"], user=url.username, dbname=url.database, autocommit=True
        ) as connection:
            yield connection


def make(database_url: str, captures: int = 0) -> dict[str, bytes]:
    """Create a catalog with several buckets, URLs that changed, and damaged or undecoded images.

    Args:
        database_url: URL of an empty database.
        captures: number of captures to create; a tenth of them is deleted again.

    Returns:
        The bytes of the images by their content hash.
    """
    backend = make_url(database_url).get_backend_name()
    blobs = blobs_of(captures)
    with connected(database_url) as connection:
        if backend == "sqlite":
            connection.execute("PRAGMA journal_mode=WAL")
        for statement in _COMMON.format(capture=_CAPTURE[backend]).split(";"):
            connection.execute(statement)
        cursor = connection.cursor()
        mark = "?" if backend == "sqlite" else "%s"
        cursor.execute("BEGIN")
        rows = [_image_row(number, *each) for number, each in enumerate(blobs.items())]
        cursor.executemany(_IMAGE.replace("?", mark), rows)
        captured = [_capture_row(number, list(blobs)) for number in range(captures)]
        cursor.executemany(_CAPTURED.replace("?", mark), captured)
        if backend == "sqlite":
            cursor.execute(_URL_INDEX)
            # The last ones are not indexed yet, because fewer than a thousand are new.
            cursor.execute(_INDEX_URLS, (captures // 1000 * 1000,))
        # Delete the newest: without AUTOINCREMENT their ids would be used again.
        cursor.execute(f"DELETE FROM capture WHERE id > {captures - captures // 10}")
        cursor.execute("COMMIT")
    return blobs


def blobs_of(captures: int) -> dict[str, bytes]:
    """Return the bytes of the images in a catalog with this number of captures, by content hash."""
    return dict(_image(number) for number in range(-(-captures // 10)))


def put(blobs: dict[str, bytes], folder: Path) -> None:
    """Write blobs as the first release did."""
    for name, data in blobs.items():
        path = folder / name[:2] / name[2:]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def rows(database_url: str) -> dict[str, list[tuple[Any, ...]]]:
    """Read everything that schema 1 has in a catalog: rows, search index, next capture id."""
    image = "content_hash, content_type, file_size_bytes, width, height, perceptual_hash, "
    image += "band0, band1, band2, band3, band4, damaged"
    capture = "id, url_digest, bucket, url, content_hash, original_filename, client_name, "
    capture += "lookup_time, created_at"
    queries = {
        "image": f"SELECT {image} FROM image ORDER BY content_hash",
        "capture": f"SELECT {capture} FROM capture ORDER BY id",
    }
    if make_url(database_url).get_backend_name() == "sqlite":
        queries |= {
            "next id": "SELECT seq FROM sqlite_sequence WHERE name = 'capture'",
            "indexed": "SELECT id FROM capture_url_docsize ORDER BY id",
            "found": 'SELECT rowid FROM capture_url WHERE capture_url MATCH \'"op3" AND "jpg"\'',
            "capture's table": "SELECT sql LIKE '%AUTOINCREMENT%' FROM sqlite_master "
            "WHERE name = 'capture'",
        }
    else:
        queries["next id"] = "SELECT last_value FROM capture_id_seq"
    with connected(database_url) as connection:
        return {what: list(connection.execute(query)) for what, query in queries.items()}


def url_of(number: int) -> str:
    """Return the URL of a capture; a third of the URLs have two captures."""
    return f"http://shop{number % 7}.test/Products/ä-{number}.jpg?size=%20_{number % 100}"


def _image(number: int) -> tuple[str, bytes]:
    data = b"the bytes of image %d" % number
    return hashlib.blake2b(data, digest_size=32).hexdigest(), data


def _image_row(number: int, name: str, data: bytes) -> tuple[Any, ...]:
    kept = (name, "image/png", len(data))
    damaged = number % 7 == 3
    if number % 5 == 1:
        return (*kept, *[None] * 8, damaged)
    value = int(name[:16], 16)
    bands = [value >> 13 * band & (0xFFF if band == 4 else 0x1FFF) for band in range(5)]
    return (*kept, 640, 480 + number % 100, f"{value:016x}", *bands, damaged)


def _capture_row(number: int, names: list[str]) -> tuple[Any, ...]:
    url = url_of(number * 2 % 3 + number // 3 * 2)
    digest = hashlib.blake2b(url.encode(), digest_size=16).digest()
    name = names[number * 7 % len(names)]
    filename = None if number % 4 else f"ä-{number}.jpg"
    # Some times are before 1970, some are equal.
    seen = _NOON - number % 11 * 10**15 + number // 2
    return digest, BUCKETS[number % 3], url, name, filename, f"spider {number % 2}", seen, _NOON
