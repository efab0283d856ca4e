"""Listings: the queries that list and count captures by filters."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from imgcache_scrapy.core.filters import Filters
from imgcache_scrapy.core.limits import MAX_PAGE_ENTRIES
from imgcache_scrapy.core.pages import Page
from imgcache_scrapy.core.times import microseconds
from imgcache_scrapy.engine.catalog import database, url_index
from imgcache_scrapy.engine.catalog.ages import age_and_order, age_of
from imgcache_scrapy.engine.catalog.database import database_call
from imgcache_scrapy.engine.catalog.functions import contains, json_rows, month, not_by_index
from imgcache_scrapy.engine.catalog.opening import OpenCatalog
from imgcache_scrapy.engine.catalog.paging import (
    characters,
    count_of_fitting,
    fetch_json,
    page_size,
    rows_of,
)
from imgcache_scrapy.engine.catalog.rows import digest, entry_of
from imgcache_scrapy.engine.catalog.tables import capture, image, image_use, is_used_capture

# If there are more captures, reading the newest rows until enough are found is faster.
_MAX_CANDIDATES = 5000

_Condition = Callable[[Any], sa.ColumnElement[bool]]
# The digests that uses have of these filters.
_USED = {"page_url": image_use.c.page_digest, "job": image_use.c.job_digest}
_CONDITIONS: Mapping[str, _Condition] = {
    "url_contains": lambda part: contains(capture.c.url, part),
    "host": lambda host: capture.c.host == host,
    "bucket": lambda bucket: capture.c.bucket == bucket,
    "client_name": lambda name: capture.c.client_name == name,
    "content_type": lambda content_type: image.c.content_type == content_type,
    "min_width": lambda width: image.c.width >= width,
    "min_height": lambda height: image.c.height >= height,
    "min_bytes": lambda size: image.c.file_size_bytes >= size,
    "max_bytes": lambda size: image.c.file_size_bytes <= size,
    "damaged": image.c.damaged.is_,
    "page_url": lambda page: _is_used("page_url", page),
    "job": lambda job: _is_used("job", job),
}
_GROUPS: Mapping[str, sa.ColumnElement[Any]] = {
    "host": sa.func.coalesce(capture.c.host, ""),
    "bucket": capture.c.bucket,
    "client": capture.c.client_name,
    "type": image.c.content_type,
    "month": month(capture.c.lookup_time),
}


class Listings(OpenCatalog):
    """The queries of a catalog for lists and counts."""

    @database_call
    def list_page(
        self, filters: Filters, limit: int | None = None, after: str | None = None
    ) -> Page:
        """Return some of the captures that meet filters, newest first.

        Args:
            filters: the conditions.
            limit: maximum number of entries; None for a whole page.
            after: the position after which the page begins; None for the first page.
        """
        wanted = page_size(limit)
        with database.connect_for_reading(self._engine) as connection:
            age, order = age_and_order(connection)
            query = sa.select(*age, characters.label("characters")).join(image)
            query = query.where(*conditions(filters, age[0]))
            if after is not None:
                query = query.where(sa.tuple_(*age) < sa.tuple_(*age_of(after)))
            candidates = few_candidates(connection, filters)
            if candidates is None:
                query = query.order_by(*order).limit(wanted + 1)
            else:
                # Without a limit: SQLite might then read all captures in their order.
                query = query.where(capture.c.id.in_(candidates))
            rows = fetch_json(connection, sa.select(json_rows(*query.subquery().c)))
            found = sorted(rows, reverse=True)[: wanted + 1]
            count = count_of_fitting(size for _, _, size in found[:wanted])
            taken = found[:count]
            entries = rows_of(connection, [its_id for _, its_id, _ in taken])
        position = "{}_{}".format(*taken[-1]) if len(found) > count else None
        return Page([entry_of(entries[each]) for _, each, _ in taken if each in entries], position)

    @database_call
    def count(self, filters: Filters) -> dict[str, int]:
        """Return the number of `captures` that meet filters, and `images` and `bytes` of them."""
        with database.connect_for_reading(self._engine) as connection:
            time = age_and_order(connection)[0][0]
            query = by_image().where(*conditions(filters, time)).subquery()
            row = connection.execute(sa.select(*_sums(query))).mappings().one()
        return {name: int(value) for name, value in row.items()}

    @database_call
    def stats_by(self, by: str) -> dict[str, dict[str, int]]:
        """Return the numbers of `captures`, `images` and `bytes` of each group of captures.

        An image is counted in each group that has a capture of it.

        Args:
            by: what the captures of a group have in common: `host`, `bucket`, `client`, `type`, or
                `month` of their lookup time.

        Returns:
            The groups with the most bytes, at most `MAX_PAGE_ENTRIES`.
        """
        query = by_image(_GROUPS[by].label("name")).subquery()
        sums = _sums(query)
        groups = sa.select(query.c.name, *sums).group_by(query.c.name)
        groups = groups.order_by(sums[2].desc(), query.c.name).limit(MAX_PAGE_ENTRIES)
        with database.connect_for_reading(self._engine) as connection:
            return {
                name: {"captures": int(captures), "images": int(images), "bytes": int(size)}
                for name, captures, images, size in connection.execute(groups)
            }


def conditions(filters: Filters, time: sa.ColumnElement[int]) -> list[sa.ColumnElement[bool]]:
    """Return the conditions in SQL for filters, on captures joined with their images.

    Args:
        filters: the filters.
        time: the SQL for the time of a capture.
    """
    values: dict[str, Any] = {**filters}
    times = {name: microseconds(values.pop(name)) for name in ("since", "until") if name in values}
    found = [_CONDITIONS[name](value) for name, value in values.items()]
    if "since" in times:
        found.append(time >= times["since"])
    if "until" in times:
        found.append(time < times["until"])
    return found


def by_image(*group: sa.ColumnElement[Any]) -> sa.Select[Any]:
    """Return the query for one row for each image of each group of captures.

    Its columns are those of the group, `content_hash`, `size` in bytes and the number of
    `captures`.
    """
    columns = (*group, image.c.content_hash, image.c.file_size_bytes.label("size"))
    query = sa.select(*columns, sa.func.count().label("captures"))
    return query.select_from(capture).join(image).group_by(*columns)


def _is_used(name: str, value: str) -> sa.ColumnElement[bool]:
    """Return the condition in SQL for a filter on the uses of a capture."""
    column, wanted = _USED[name], digest(value)
    # By the index, SQLite would read all of these uses again for each capture.
    is_same = not_by_index(column) == wanted
    return sa.and_(
        capture.c.content_hash.in_(sa.select(image_use.c.content_hash).where(column == wanted)),
        sa.exists(sa.select(image_use.c.id).where(is_used_capture, is_same).correlate(capture)),
    )


def few_candidates(
    connection: Connection, filters: Filters, others: Sequence[sa.Select[tuple[int]]] = ()
) -> sa.Select[tuple[int]] | None:
    """Return a query for the ids of some captures, among which all are that meet filters.

    Args:
        connection: to the database.
        filters: the filters.
        others: queries for ids; all captures that are wanted are among those of each.

    Returns:
        The query; None if there is none that finds few ids.
    """
    if connection.dialect.name != "sqlite":
        return None
    few = list(others)
    if "host" in filters:
        few.append(sa.select(capture.c.id).where(capture.c.host == filters["host"]))
    values: dict[str, Any] = {**filters}
    for name in _USED.keys() & values.keys():
        is_used = _USED[name] == digest(values[name])
        few.append(sa.select(capture.c.id).join(image_use, is_used_capture).where(is_used))
    if filters.get("damaged"):
        few.append(sa.select(capture.c.id).join(image).where(image.c.damaged))
    for query in few:
        ids = connection.scalars(query.limit(_MAX_CANDIDATES)).all()
        if len(ids) < _MAX_CANDIDATES:
            found = sa.func.json_each(json.dumps(list(ids))).table_valued("value")
            return sa.select(found.c.value)
    part = filters.get("url_contains")
    return url_index.candidates(connection, part) if part else None


def _sums(query: sa.Subquery) -> tuple[sa.ColumnElement[Any], ...]:
    return (
        sa.func.coalesce(sa.func.sum(query.c.captures), 0).label("captures"),
        sa.func.count().label("images"),
        sa.func.coalesce(sa.func.sum(query.c.size), 0).label("bytes"),
    )
