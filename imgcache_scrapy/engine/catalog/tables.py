"""The tables of the catalog, one schema for SQLite and PostgreSQL.

The migrations create the tables; a test checks that the result is equal to this schema.
"""

from typing import Any

import sqlalchemy as sa

from imgcache_scrapy.engine.catalog.similarity import BAND_COUNT

SCHEMA = 7
"""The number of this schema, stored in the database; newer schemas have higher numbers."""

metadata = sa.MetaData()
# This table has exactly one row.
schema = sa.Table(
    "imgcache_schema",
    metadata,
    sa.Column("number", sa.Integer, nullable=False),
    # The blobs of the cache have the same id.
    sa.Column("cache_id", sa.String(32)),
    # True for a catalog from schema 1, until it is opened with its blobs.
    sa.Column("adopts_blobs", sa.Boolean),
    # A day since 1970: the last use of images of which it is not known.
    sa.Column("used_since", sa.Integer),
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
    # A `DecodeError`: why there is no width. Both are NULL if the image is not decoded yet.
    sa.Column("decode_error", sa.String(16)),
    # How often it was tried to decode an image that was not decoded when it was stored.
    sa.Column("decode_attempts", sa.Integer, nullable=False, server_default="0"),
    # A day since 1970, UTC; NULL in rows of schema 4 whose image was not used since.
    sa.Column("last_used", sa.Integer),
)
is_not_decoded = sa.and_(image.c.width.is_(None), image.c.decode_error.is_(None))
# In PostgreSQL, the migrations give this index, and that of hosts, the same condition. Its option
# here would load SQLAlchemy's dialect for PostgreSQL at each start, which takes 30 ms.
sa.Index("ix_image_not_decoded", image.c.content_hash, sqlite_where=is_not_decoded)
capture = sa.Table(
    "capture",
    metadata,
    # SQLite numbers rows automatically only if the key is INTEGER.
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
    # The digest of the key, which may be too long for an index.
    sa.Column("url_digest", sa.LargeBinary(16), nullable=False),
    sa.Column("bucket", sa.Text, nullable=False),
    sa.Column("url", sa.Text, nullable=False),
    sa.Column("content_hash", sa.ForeignKey("image.content_hash"), nullable=False, index=True),
    sa.Column("original_filename", sa.Text),
    sa.Column("client_name", sa.Text, nullable=False),
    sa.Column("lookup_time", sa.BigInteger, nullable=False),
    sa.Column("created_at", sa.BigInteger, nullable=False),
    # The cache key; NULL if it is the URL, as in the rows of schema 3.
    sa.Column("key", sa.Text),
    # The host of the URL; NULL in a row of schema 3 that `imgcache upgrade` has not filled yet.
    sa.Column("host", sa.Text),
    # A JSON object; NULL if they are not known.
    sa.Column("headers", sa.Text),
    # NULL if it is the URL.
    sa.Column("final_url", sa.Text),
    # The request's header; NULL if the response does not vary by it, or if it is not known.
    sa.Column("accept", sa.Text),
    # An id is never used again: the index of URLs would miss the second URL of the same id.
    sqlite_autoincrement=True,
)
has_host = capture.c.host.is_not(None)
sa.Index("ix_capture_host", capture.c.host, sqlite_where=has_host)
history_index = sa.Index(
    "ix_capture_history", capture.c.url_digest, capture.c.lookup_time, capture.c.id
)
"""The index of keys. An older catalog that is large has it after `index_histories`."""
newest_first = (capture.c.lookup_time.desc(), capture.c.id.desc())
sa.Index("ix_capture_newest_first", *newest_first)
# Not `EXISTS` with a time: PostgreSQL might expect many such rows, and scan the table.
_latest = capture.alias("latest")
latest_time = sa.select(sa.func.max(_latest.c.lookup_time)).scalar_subquery()
"""SQL for the latest lookup time of all captures."""
failure = sa.Table(
    "failure",
    metadata,
    # The digest of the bucket and the URL that was asked.
    sa.Column("digest", sa.LargeBinary(16), primary_key=True),
    sa.Column("bucket", sa.Text, nullable=False),
    sa.Column("url", sa.Text, nullable=False),
    sa.Column("host", sa.Text, nullable=False, index=True),
    sa.Column("reason", sa.String(32), nullable=False),
    sa.Column("http_status", sa.Integer),
    sa.Column("failed_at", sa.BigInteger, nullable=False, index=True),
    sa.Column("expires_at", sa.BigInteger, nullable=False, index=True),
)
unlocked_failures = sa.select(failure.c.digest).with_for_update(skip_locked=True)
"""Selects failures that no other transaction changes: to wait for one could be a deadlock."""
blocked = sa.Table(
    "blocked",
    metadata,
    # The image itself may have been deleted.
    sa.Column("content_hash", sa.String(64), primary_key=True),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("created_at", sa.BigInteger, nullable=False),
)
blocked_source = sa.Table(
    "blocked_source",
    metadata,
    # The digest of the kind and the value.
    sa.Column("digest", sa.LargeBinary(16), primary_key=True),
    # `host` or `url`; the value is the host, or the cache key of the URL.
    sa.Column("kind", sa.String(4), nullable=False),
    sa.Column("value", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("created_at", sa.BigInteger, nullable=False),
)
audit = sa.Table(
    "audit",
    metadata,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
    sa.Column("done_at", sa.BigInteger, nullable=False),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("act", sa.String(16), nullable=False),
    # A JSON object.
    sa.Column("filter", sa.Text, nullable=False),
    sa.Column("captures", sa.BigInteger, nullable=False),
    sa.Column("images", sa.BigInteger, nullable=False),
    sa.Column("bytes", sa.BigInteger, nullable=False),
)
image_use = sa.Table(
    "image_use",
    metadata,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
    # The digest of `NewUse.identity`.
    sa.Column("digest", sa.LargeBinary(16), nullable=False),
    sa.Column("content_hash", sa.ForeignKey("image.content_hash"), nullable=False),
    sa.Column("bucket", sa.Text, nullable=False),
    sa.Column("url", sa.Text, nullable=False),
    # The key of the URL; NULL if it is the URL.
    sa.Column("key", sa.Text),
    # The digest of the key, as captures have it.
    sa.Column("url_digest", sa.LargeBinary(16), nullable=False),
    sa.Column("page_url", sa.Text),
    sa.Column("page_digest", sa.LargeBinary(16)),
    sa.Column("item", sa.Text),
    sa.Column("spider", sa.Text),
    sa.Column("job", sa.Text),
    sa.Column("job_digest", sa.LargeBinary(16)),
    sa.Column("position", sa.Integer),
    sa.Column("alt", sa.Text),
    sa.Column("caption", sa.Text),
    # A JSON object.
    sa.Column("meta", sa.Text),
    sa.Column("first_used_at", sa.BigInteger, nullable=False),
    sa.Column("used_at", sa.BigInteger, nullable=False),
)
sa.Index("ix_image_use_digest", image_use.c.digest, unique=True)
# With the id, which is the order of lists.
sa.Index("ix_image_use_content_hash", image_use.c.content_hash, image_use.c.id)
sa.Index("ix_image_use_page", image_use.c.page_digest, image_use.c.id)
sa.Index("ix_image_use_job", image_use.c.job_digest, image_use.c.id)
is_used_capture = sa.and_(
    image_use.c.content_hash == capture.c.content_hash,
    image_use.c.bucket == capture.c.bucket,
    # The second one, because an upgrade gives an old capture another key.
    sa.or_(image_use.c.url_digest == capture.c.url_digest, image_use.c.url == capture.c.url),
)
"""SQL for whether a use is one of a capture."""
is_blocked = sa.exists().where(blocked.c.content_hash == image.c.content_hash).correlate(image)
"""SQL for whether an image is blocked."""
used_on = sa.func.coalesce(image.c.last_used, sa.select(schema.c.used_since).scalar_subquery())
"""SQL for the day on which an image was last used, in days since 1970."""
find_blocked = sa.select(blocked.c.content_hash).where(
    blocked.c.content_hash.in_(sa.bindparam("hashes", expanding=True))
)
"""Selects which of the images with these `hashes` are blocked."""
entries = sa.select(
    capture,
    *(column for column in image.c if column.name != "content_hash"),
    is_blocked.label("blocked"),
).join(image)
"""Selects captures joined with their images: one row for each entry."""


def delete_failures(which: sa.Select[tuple[bytes]]) -> sa.Delete:
    """Return the SQL that deletes failures, which a query selects by their digest."""
    return failure.delete().where(failure.c.digest.in_(which))


def is_unused(day: int) -> sa.ColumnElement[bool]:
    """Return the SQL for whether an image was not used on a day, in days since 1970."""
    # The next day may be that of a faster clock, later ones are those of a wrong clock.
    return sa.or_(used_on < day, used_on > day + 1)


def seen_at(at: int | sa.ColumnElement[int], of: sa.FromClause = capture) -> sa.ColumnElement[int]:
    """Return the SQL for `rows.seen_at`.

    Args:
        at: the time of the cache's clock.
        of: the table of captures, or an alias of it.
    """
    seen, created = of.c.lookup_time, of.c.created_at
    return sa.case((sa.or_(seen <= at, seen <= created), seen), else_=created)


def in_bucket(
    query: sa.Select[Any], bucket: str | None, of: sa.FromClause = capture
) -> sa.Select[Any]:
    """Restrict a query of captures, or of an alias of them, to a bucket; None for all buckets."""
    return query if bucket is None else query.where(of.c.bucket == bucket)
