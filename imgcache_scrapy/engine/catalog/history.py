"""Read histories: all captures of a URL, or all those of an image, newest first."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from imgcache_scrapy.core.pages import Page
from imgcache_scrapy.engine.catalog import database
from imgcache_scrapy.engine.catalog.database import database_call
from imgcache_scrapy.engine.catalog.functions import json_rows
from imgcache_scrapy.engine.catalog.opening import OpenCatalog
from imgcache_scrapy.engine.catalog.paging import (
    characters,
    count_of_fitting,
    fetch_json,
    page_size,
    rows_of,
)
from imgcache_scrapy.engine.catalog.rows import digest, entry_of, now
from imgcache_scrapy.engine.catalog.tables import capture, in_bucket, seen_at


class _Part(NamedTuple):
    """Some captures of a history, and the time that orders them."""

    condition: sa.ColumnElement[bool]
    time: sa.ColumnElement[int]


class Histories(OpenCatalog):
    """The queries for histories; those of damaged images are in them, because they were seen."""

    @database_call
    def history_page(
        self,
        keys: Sequence[str],
        bucket: str | None = None,
        limit: int | None = None,
        after: str | None = None,
    ) -> Page:
        """Return some captures of some keys, newest first.

        Args:
            keys: the cache keys: one, or the different spellings of one.
            bucket: the bucket to look in; None for all buckets.
            limit: maximum number of entries; None for a whole page.
            after: the position after which the page begins; None for the first page.
        """
        at = now()
        seen, parts = capture.c.lookup_time, []
        # Apart, because the index has the order of these rows, but not that of all together.
        for its_digest in {digest(key) for key in keys}:
            has_key = capture.c.url_digest == its_digest
            parts.append(_Part(sa.and_(has_key, seen <= at), seen))
            parts.append(_Part(sa.and_(has_key, seen > at), seen_at(at)))
        with database.connect_for_reading(self._engine) as connection:
            return _page(connection, parts, bucket, limit, after)

    @database_call
    def captures_page(
        self,
        content_hash: str,
        bucket: str | None = None,
        limit: int | None = None,
        after: str | None = None,
    ) -> Page:
        """Return some captures of an image, newest first.

        Args:
            content_hash: the hash of the image.
            bucket: the bucket to look in; None for all buckets.
            limit: maximum number of entries; None for a whole page.
            after: the position after which the page begins; None for the first page.
        """
        of_image = _Part(capture.c.content_hash == content_hash, seen_at(now()))
        with database.connect_for_reading(self._engine) as connection:
            return _page(connection, [of_image], bucket, limit, after)


def _page(
    connection: Connection,
    parts: Sequence[_Part],
    bucket: str | None,
    limit: int | None,
    after: str | None,
) -> Page:
    """Return the captures of some parts, after a position."""
    wanted = page_size(limit)
    found: list[list[Any]] = []
    for condition, time in parts:
        age = (time.label("time"), capture.c.id)
        query = in_bucket(sa.select(*age, characters.label("characters")), bucket).where(condition)
        if after is not None:
            query = query.where(sa.tuple_(*age) < sa.tuple_(*map(int, after.split("_"))))
        query = query.order_by(*(value.desc() for value in age)).limit(wanted + 1)
        found += fetch_json(connection, sa.select(json_rows(*query.subquery().c)))
    found = sorted(found, reverse=True)[: wanted + 1]
    taken = found[: count_of_fitting(size for *_, size in found[:wanted])]
    rows = rows_of(connection, [its_id for _, its_id, _ in taken])
    entries = [entry_of(rows[its_id]) for _, its_id, _ in taken if its_id in rows]
    if len(taken) == len(found):
        return Page(entries)
    position = f"{taken[-1][0]}_{taken[-1][1]}"
    if not entries:  # All of them have been deleted since the first query.
        return _page(connection, parts, bucket, limit, position)
    return Page(entries, position)
