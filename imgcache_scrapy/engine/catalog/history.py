"""Read histories: all captures of a URL, or all those of an image, newest first."""

import functools
from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from imgcache_scrapy.core.entry import Entry
from imgcache_scrapy.core.pages import Page, all_pages
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


class Histories(OpenCatalog):
    """The queries for histories; those of damaged images are in them, because they were seen."""

    def history(
        self, keys: Sequence[str], bucket: str | None = None, limit: int | None = None
    ) -> list[Entry]:
        """Return all captures of some keys: all pages of `history_page` together."""
        return all_pages(functools.partial(self.history_page, keys, bucket), limit)

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
        has_key = capture.c.url_digest.in_([digest(key) for key in keys])
        with database.connect_for_reading(self._engine) as connection:
            return _page(connection, has_key, bucket, limit, after)

    def captures(
        self, content_hash: str, bucket: str | None = None, limit: int | None = None
    ) -> list[Entry]:
        """Return all captures of an image: all pages of `captures_page` together."""
        return all_pages(functools.partial(self.captures_page, content_hash, bucket), limit)

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
        has_hash = capture.c.content_hash == content_hash
        with database.connect_for_reading(self._engine) as connection:
            return _page(connection, has_hash, bucket, limit, after)


def _page(
    connection: Connection,
    condition: sa.ColumnElement[bool],
    bucket: str | None,
    limit: int | None,
    after: str | None,
) -> Page:
    """Return the captures that meet a condition, after a position."""
    wanted = page_size(limit)
    age = (seen_at(now()).label("time"), capture.c.id)
    query = in_bucket(sa.select(*age, characters.label("characters")), bucket).where(condition)
    if after is not None:
        query = query.where(sa.tuple_(*age) < sa.tuple_(*map(int, after.split("_"))))
    query = query.order_by(*(value.desc() for value in age)).limit(wanted + 1)
    found = fetch_json(connection, sa.select(json_rows(*query.subquery().c)))
    found.sort(reverse=True)
    taken = found[: count_of_fitting(size for *_, size in found[:wanted])]
    rows = rows_of(connection, [its_id for _, its_id, _ in taken])
    entries = [entry_of(rows[its_id]) for _, its_id, _ in taken if its_id in rows]
    if len(taken) == len(found):
        return Page(entries)
    position = f"{taken[-1][0]}_{taken[-1][1]}"
    if not entries:  # All of them have been deleted since the first query.
        return _page(connection, condition, bucket, limit, position)
    return Page(entries, position)
