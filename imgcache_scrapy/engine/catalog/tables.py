"""The tables of the catalog, one schema for SQLite and PostgreSQL.

The database gets them from the migrations; a test compares both.
"""

from typing import Any

import sqlalchemy as sa

from imgcache_scrapy.engine.catalog.similarity import BAND_COUNT

SCHEMA = 2
"""The number of this schema, stored in the database; a newer version has a higher one."""

metadata = sa.MetaData()
# It has one row.
schema = sa.Table(
    "imgcache_schema",
    metadata,
    sa.Column("number", sa.Integer, nullable=False),
    # The blobs of the cache have it too.
    sa.Column("cache_id", sa.String(32)),
    # True for a catalog of schema 1 that has not been opened with its blobs since.
    sa.Column("adopts_blobs", sa.Boolean),
)
image = sa.Table(
    "image",
    metadata,
    sa.Column("content_hash", sa.String(64), primary_key=True),
    sa.Column("content_type", sa.String(64), nullable=False),
    sa.Column("file_size_bytes", sa.BigInteger, nullable=False),
    sa.Column("width", sa.Integer),
    sa.Column("height", sa.Integer),
    sa.Column("perceptual_hash", sa.String(16)),
    *(sa.Column(f"band{i}", sa.Integer, index=True) for i in range(BAND_COUNT)),
    sa.Column("damaged", sa.Boolean, nullable=False, default=False),
    # Why there is no width, a `DecodeError`; neither of both where it is not decoded yet.
    sa.Column("decode_error", sa.String(16)),
)
capture = sa.Table(
    "capture",
    metadata,
    # SQLite only numbers rows by itself where the key is INTEGER.
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
    # The URL itself may be longer than an index row can be.
    sa.Column("url_digest", sa.LargeBinary(16), nullable=False, index=True),
    sa.Column("bucket", sa.Text, nullable=False),
    sa.Column("url", sa.Text, nullable=False),
    sa.Column("content_hash", sa.ForeignKey("image.content_hash"), nullable=False, index=True),
    sa.Column("original_filename", sa.Text),
    sa.Column("client_name", sa.Text, nullable=False),
    sa.Column("lookup_time", sa.BigInteger, nullable=False),
    sa.Column("created_at", sa.BigInteger, nullable=False),
    # An id that was given is never given again, or the index of URLs would miss its second URL.
    sqlite_autoincrement=True,
)
newest_first = (capture.c.lookup_time.desc(), capture.c.id.desc())
sa.Index("ix_capture_newest_first", *newest_first)
newest_last = (capture.c.lookup_time, capture.c.id)
entries = sa.select(capture, *(column for column in image.c if column.name != "content_hash")).join(
    image
)
"""Selects captures with their images: a row for each entry."""


def in_bucket(query: sa.Select[Any], bucket: str | None) -> sa.Select[Any]:
    """Restrict a query of captures to a bucket, None for all buckets."""
    return query if bucket is None else query.where(capture.c.bucket == bucket)
