"""Convert between rows of the catalog and uses; record uses, and delete those of lost captures."""

import json
from collections.abc import Iterable, Sequence
from operator import itemgetter
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from imgcache_scrapy.core.times import iso, microseconds
from imgcache_scrapy.core.uses import NewUse, Use
from imgcache_scrapy.engine.catalog import database
from imgcache_scrapy.engine.catalog.rows import digest, now
from imgcache_scrapy.engine.catalog.tables import capture as _capture
from imgcache_scrapy.engine.catalog.tables import image as _image
from imgcache_scrapy.engine.catalog.tables import image_use as _use
from imgcache_scrapy.engine.catalog.tables import is_used_capture

_COLUMNS = [column.name for column in _use.columns if column.name != "id"]
RENEWED_BY_USE = ("url", "job", "job_digest", "alt", "caption", "meta", "used_at")
"""What the next use with the same identity replaces."""
_values_of = itemgetter(*_COLUMNS)
_RECORD = (
    f"INSERT INTO image_use ({', '.join(_COLUMNS)}) VALUES ({{}}) ON CONFLICT (digest) DO UPDATE"  # noqa: S608 - the names are our own
    f" SET {', '.join(f'{name} = excluded.{name}' for name in RENEWED_BY_USE)}"
    " WHERE excluded.used_at >= image_use.used_at"
)
_known = sa.select(_image.c.content_hash).where(
    _image.c.content_hash.in_(sa.bindparam("hashes", expanding=True))
)
_delete_lost = _use.delete().where(
    _use.c.content_hash.in_(sa.bindparam("hashes", expanding=True)),
    ~sa.exists(sa.select(_capture.c.id).where(is_used_capture).correlate(_use)),
)


def record_uses(connection: Connection, uses: Sequence[NewUse]) -> int:
    """Record uses of images that have a row; one that is known is renewed.

    Args:
        connection: in a write transaction that excludes others from the images.
        uses: the uses.

    Returns:
        The number of uses whose image has a row; the others are left out.
    """
    at, names = now(), {use.content_hash for use in uses}
    known = set(connection.scalars(_known, {"hashes": list(names)}))
    found = [use for use in uses if use.content_hash in known]
    rows = {row["digest"]: row for row in (use_row(use, at) for use in found)}
    if rows:
        # By the driver itself: SQLAlchemy would take half of the time. The list keeps their order.
        marks = ", ".join([database.parameter_mark(connection)] * len(_COLUMNS))
        values = list(map(_values_of, rows.values()))
        connection.exec_driver_sql(_RECORD.format(marks), values)
    return len(found)


def delete_lost_uses(connection: Connection, content_hashes: Iterable[str]) -> None:
    """Delete the uses of images whose captures of the used URLs were deleted.

    Args:
        connection: in a write transaction that has deleted captures, but not their images yet.
        content_hashes: the hashes of the images.
    """
    connection.execute(_delete_lost, {"hashes": list(content_hashes)})


def use_row(use: NewUse, at: int) -> dict[str, Any]:
    """Return the row of a use that is recorded at a time of the cache's clock."""
    used_at = at if use.used_at is None else min(microseconds(use.used_at), at)
    first = used_at if use.first_used_at is None else microseconds(use.first_used_at)
    return {
        "digest": digest("\0".join(use.identity)),
        "content_hash": use.content_hash,
        "bucket": use.bucket,
        "url": use.url,
        "key": None if use.key == use.url else use.key,
        "url_digest": digest(use.key),
        "page_url": use.page_url,
        "page_digest": None if use.page_url is None else digest(use.page_url),
        "item": use.item,
        "spider": use.spider,
        "job": use.job,
        "job_digest": None if use.job is None else digest(use.job),
        "position": use.position,
        "alt": use.alt,
        "caption": use.caption,
        "meta": use.meta,
        "first_used_at": min(first, used_at),
        "used_at": used_at,
    }


def use_of(row: Row[Any]) -> Use:
    """Return the use of a row."""
    return {
        "content_hash": row.content_hash,
        "url": row.url,
        "key": row.key or row.url,
        "bucket": row.bucket,
        "page_url": row.page_url,
        "item": row.item,
        "spider": row.spider,
        "job": row.job,
        "position": row.position,
        "alt": row.alt,
        "caption": row.caption,
        "meta": None if row.meta is None else json.loads(row.meta),
        "first_used_at": iso(row.first_used_at),
        "used_at": iso(row.used_at),
    }


def characters_of(row: Row[Any]) -> int:
    """Return the number of characters in the texts of a row."""
    return sum(len(each) for each in row if isinstance(each, str))
