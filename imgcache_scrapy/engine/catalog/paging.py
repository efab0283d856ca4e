"""Read the entries of captures for one page, which has a bounded number and size of entries."""

import json
from collections.abc import Collection, Iterable, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from imgcache_scrapy.core.batches import batches
from imgcache_scrapy.core.limits import MAX_PAGE_CHARACTERS, MAX_PAGE_ENTRIES
from imgcache_scrapy.engine.catalog.functions import json_rows
from imgcache_scrapy.engine.catalog.rows import now
from imgcache_scrapy.engine.catalog.tables import capture, entries, in_bucket, seen_at
from imgcache_scrapy.engine.catalog.tables import image as _image

# The columns of an entry: without the digest, which JSON cannot contain.
_LISTED = [
    column.name for column in entries.selected_columns
    if not column.name.startswith(("url_digest", "decode_", "band", "host"))
]  # fmt: skip
characters: sa.ColumnElement[int] = (
    sa.func.length(capture.c.url)
    + sa.func.length(capture.c.bucket)
    + sa.func.length(capture.c.client_name)
    + sa.func.coalesce(sa.func.length(capture.c.key), 0)
    + sa.func.coalesce(sa.func.length(capture.c.headers), 0)
    + sa.func.coalesce(sa.func.length(capture.c.final_url), 0)
)
"""SQL for the number of characters in the long texts of a capture."""
select_listed = (
    sa.select(json_rows(*(entries.selected_columns[name] for name in _LISTED)))
    .select_from(capture)
    .join(_image)
)
"""Selects captures joined with their images, for `listed_rows`."""
_rows_of = select_listed.where(capture.c.id.in_(sa.bindparam("ids", expanding=True)))
MAX_VALUES = 500
"""The number of values that one query gets."""


class Listed(NamedTuple):
    """A capture that may be on a page.

    Attributes:
        capture_id: the id of its row.
        characters: the number of characters in its long texts.
    """

    capture_id: int
    characters: int


def page_size(limit: int | None) -> int:
    """Return how many entries a page has at most, if `limit` entries are wanted."""
    return MAX_PAGE_ENTRIES if limit is None else min(limit, MAX_PAGE_ENTRIES)


def count_of_fitting(
    sizes: Iterable[int], room: int = MAX_PAGE_CHARACTERS, *, is_first: bool = True
) -> int:
    """Return how many entries fit in a page.

    Args:
        sizes: the number of characters of each entry.
        room: the number of characters that the page may still have.
        is_first: whether the page has no entry yet; then the first one always fits.
    """
    total = count = 0
    for size in sizes:
        total += size
        if total > room and not (is_first and count == 0):
            break
        count += 1
    return count


def rows_of(connection: Connection, ids: Sequence[int]) -> dict[int, dict[str, Any]]:
    """Return the rows of captures, joined with their images, by the id of the capture."""
    return {
        row["id"]: row
        for batch in batches(ids, MAX_VALUES)
        for row in listed_rows(connection, _rows_of, ids=batch)
    }


def listed_rows(
    connection: Connection, query: sa.Select[Any], **values: Any
) -> list[dict[str, Any]]:
    """Return the rows of a query that begins as `select_listed`."""
    return listed_of(connection.scalar(query, values))


def listed_of(found: str | None) -> list[dict[str, Any]]:
    """Return the rows that a query that begins as `select_listed` has found."""
    return [dict(zip(_LISTED, row, strict=True)) for row in json.loads(found or "[]")]


def newest_of_images(
    connection: Connection, content_hashes: Collection[str], bucket: str | None
) -> dict[str, Listed]:
    """Return the newest capture of each image; images without a capture are missing.

    Args:
        connection: to the database.
        content_hashes: the hashes of the images.
        bucket: the bucket to look in; None for all buckets.
    """
    other = capture.alias()
    # The database chooses: an image may have any number of captures.
    newest = (
        in_bucket(sa.select(other.c.id), bucket, other)
        .where(other.c.content_hash == _image.c.content_hash)
        .order_by(seen_at(now(), other).desc(), other.c.id.desc())
        .limit(1)
        .scalar_subquery()
    )
    query = (
        sa.select(json_rows(capture.c.content_hash, capture.c.id, characters))
        .select_from(_image)
        .join(capture, capture.c.id == newest)
        .where(_image.c.content_hash.in_(sa.bindparam("hashes", expanding=True)))
    )
    return {
        content_hash: Listed(*listed)
        for batch in batches(content_hashes, MAX_VALUES)
        for content_hash, *listed in fetch_json(connection, query, hashes=batch)
    }


def fetch_json(connection: Connection, query: sa.Select[Any], **values: Any) -> list[list[Any]]:
    """Return the rows of a query that selects `json_rows`."""
    rows: list[list[Any]] = json.loads(connection.scalar(query, values) or "[]")
    return rows
