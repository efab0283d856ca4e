"""Find the newest capture of each of many keys, without reading the rest of their histories."""

from collections import defaultdict
from collections.abc import Collection, Iterable
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, RowMapping

from imgcache_scrapy.engine.catalog.paging import listed_of, listed_rows, select_listed
from imgcache_scrapy.engine.catalog.rows import DIGEST_BYTES, Capture, digest, now
from imgcache_scrapy.engine.catalog.rows import seen_at as row_seen_at
from imgcache_scrapy.engine.catalog.tables import capture as _capture
from imgcache_scrapy.engine.catalog.tables import image as _image
from imgcache_scrapy.engine.catalog.tables import latest_time, seen_at

# All digests are one value, one after the other: SQLAlchemy handles many values slowly.
_digests = sa.bindparam("digests", type_=sa.LargeBinary())
_size = sa.literal_column(str(DIGEST_BYTES), sa.Integer())
_one = sa.literal_column("1", sa.Integer())
_start = sa.select(_one.label("value")).cte("start", recursive=True)
_next_start = _start.c.value + _size
_start = _start.union_all(sa.select(_next_start).where(_next_start < sa.func.length(_digests)))
_digest = sa.func.substr(_digests, _start.c.value, _size, type_=sa.LargeBinary())

_each = _capture.alias("each_capture")
_at = sa.bindparam("at", type_=sa.BigInteger())
_bucket = sa.bindparam("its_bucket", type_=sa.Text())
_accept = sa.bindparam("its_accept", type_=sa.Text())
_is_sound = (
    sa.select(~_image.c.damaged)
    .where(_image.c.content_hash == _each.c.content_hash)
    .correlate(_each)
    .scalar_subquery()
)


def _newest_ids(*conditions: sa.ColumnElement[bool], time: sa.ColumnElement[int]) -> sa.Select[Any]:
    """Select the id of the newest capture of each key that meets the conditions."""
    newest = (
        sa.select(_each.c.id)
        .where(_each.c.url_digest == _digest, *conditions)
        .order_by(time.desc(), _each.c.id.desc())
        .limit(_one)
        .correlate(_start)
    )
    return sa.select(newest.scalar_subquery()).select_from(_start)


def _find_hits(*conditions: sa.ColumnElement[bool]) -> tuple[sa.Select[Any], sa.Select[Any]]:
    """Return the query for hits, and that for a catalog with times in the future."""
    conditions = (
        sa.or_(_bucket.is_(None), _each.c.bucket == _bucket),
        sa.or_(_accept.is_(None), _each.c.accept.is_(None), _each.c.accept == _accept),
        _is_sound,
        *conditions,
    )
    seen = _each.c.lookup_time
    of_past = _newest_ids(seen <= _at, *conditions, time=seen)
    # No index has this order, but there are few such rows.
    of_future = _newest_ids(seen > _at, *conditions, time=seen_at(_at, _each))
    return (
        select_listed.where(_capture.c.id.in_(of_past)).add_columns(latest_time),
        select_listed.where(_capture.c.id.in_(sa.union_all(of_past, of_future))),
    )


# Built once, because building a statement takes longer than running it.
_hits = _find_hits()
_hits_without = _find_hits(_each.c.content_hash.not_in(sa.bindparam("without", expanding=True)))
_captures = sa.select(_capture).where(
    _capture.c.id.in_(
        _newest_ids(
            _each.c.bucket == _bucket,
            _each.c.accept.is_not_distinct_from(_accept),
            time=_each.c.lookup_time,
        )
    )
)
_captured = (
    sa.select(_digest)
    .select_from(_start)
    .where(
        sa.exists(
            sa.select(_each.c.id)
            .where(_each.c.url_digest == _digest, _each.c.bucket == _bucket, _is_sound)
            .correlate(_start)
        )
    )
)


def newest_hits(
    connection: Connection,
    keys: Iterable[str],
    bucket: str | None,
    without: Collection[str],
    accept: str | None,
) -> list[dict[str, Any]]:
    """Return the newest rows of keys, for `Catalog.lookup_many`; see there for the arguments.

    Returns:
        The newest row of each key; before it perhaps another one, if a lookup time is ahead of the
        clock.
    """
    query, query_with_future = _hits_without if without else _hits
    at = now()
    values = {
        "digests": _joined(keys),
        "at": at,
        "its_bucket": bucket,
        "its_accept": accept,
        "without": list(without),
    }
    found, latest = connection.execute(query, values).one()
    if latest is not None and latest > at:
        rows = listed_rows(connection, query_with_future, **values)
        return sorted(rows, key=lambda row: (row_seen_at(row, at), row["id"]))
    return listed_of(found)


def newest_captures(connection: Connection, captures: Iterable[Capture]) -> list[RowMapping]:
    """Return the newest capture of each history to which these captures belong.

    No lookup time of the histories may be ahead of the clock.
    """
    keys: dict[tuple[str, str | None], list[str]] = defaultdict(list)
    for each in captures:
        keys[each.bucket, each.response.accept].append(each.key)
    return [
        row
        for (bucket, accept), its_keys in keys.items()
        for row in connection.execute(
            _captures,
            {"digests": _joined(its_keys), "its_bucket": bucket, "its_accept": accept},
        ).mappings()
    ]


def captured_keys(connection: Connection, keys: Iterable[str], bucket: str) -> set[bytes]:
    """Return the digests of the keys that have a capture of a sound image in a bucket."""
    values = {"digests": _joined(keys), "its_bucket": bucket}
    return set(connection.scalars(_captured, values))


def _joined(keys: Iterable[str]) -> bytes:
    return b"".join(map(digest, keys))
