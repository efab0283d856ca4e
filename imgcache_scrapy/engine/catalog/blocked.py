"""BlockedImages: the queries for blocked images, and for images that may be placeholders."""

from collections.abc import Collection
from urllib.parse import urlsplit

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from imgcache_scrapy.core.audit import Deed
from imgcache_scrapy.core.blocked import BlockedImage
from imgcache_scrapy.core.entry import Entry
from imgcache_scrapy.core.pages import ListPage
from imgcache_scrapy.core.urls import host_of
from imgcache_scrapy.engine.catalog import database
from imgcache_scrapy.engine.catalog.database import database_call
from imgcache_scrapy.engine.catalog.functions import json_rows
from imgcache_scrapy.engine.catalog.opening import OpenCatalog
from imgcache_scrapy.engine.catalog.paging import (
    fetch_json,
    newest_of_images,
    page_size,
    rows_of,
)
from imgcache_scrapy.engine.catalog.rows import blocked_image, entry_of
from imgcache_scrapy.engine.catalog.tables import blocked as _blocked
from imgcache_scrapy.engine.catalog.tables import capture as _capture
from imgcache_scrapy.engine.catalog.tables import find_blocked, in_bucket

MIN_PATHS = 10
"""An image is suggested if its URLs have at least this number of different paths."""
MAX_SUGGESTIONS = 100
"""Maximum number of images that are suggested."""

# Only the newest captures are counted, so that a large catalog does not take minutes.
_MAX_CAPTURES = 1_000_000
# Maximum number of URLs that are read for each image.
_MAX_URLS = 1000

_age = (_blocked.c.created_at, _blocked.c.content_hash)
_newest_first = sa.select(_blocked).order_by(*(column.desc() for column in _age))
_urls_of = sa.select(_capture.c.url).where(
    _capture.c.content_hash == sa.bindparam("its_hash")
).limit(_MAX_URLS)  # fmt: skip


class BlockedImages(OpenCatalog):
    """The queries of a catalog for blocked images."""

    @database_call
    def blocked_among(self, content_hashes: Collection[str]) -> set[str]:
        """Return which of these images are blocked; see `RareRows`."""
        if not self._rare_rows.exist(_blocked):
            return set()
        with database.connect_for_reading(self._engine) as connection:
            return set(connection.scalars(find_blocked, {"hashes": list(content_hashes)}))

    @database_call
    def block(self, content_hash: str, reason: str, actor: str = "") -> BlockedImage:
        """Block an image, whether the cache has it or not; an image of the cache is not deleted.

        Args:
            content_hash: the hash of the image.
            reason: replaces the reason of an image that is blocked already.
            actor: who does it, for the audit list.
        """
        with self.exclusive([content_hash]) as transaction:
            transaction.record_deed(Deed(actor, "block", {"content_hash": content_hash}))
            image = transaction.block(content_hash, reason)
        self._rare_rows.note_insert(_blocked)
        return image

    @database_call
    def unblock(self, content_hash: str, actor: str = "") -> bool:
        """Allow an image again; return whether it was blocked."""
        with self.exclusive([content_hash]) as transaction:
            was_blocked = transaction.unblock(content_hash)
            if was_blocked:
                transaction.record_deed(Deed(actor, "unblock", {"content_hash": content_hash}))
            return was_blocked

    @database_call
    def blocked_page(
        self, limit: int | None = None, after: str | None = None
    ) -> ListPage[BlockedImage]:
        """Return some blocked images, newest first.

        Args:
            limit: maximum number of images; None for a whole page.
            after: the position after which the page begins; None for the first page.
        """
        wanted, query = page_size(limit), _newest_first
        if after is not None:
            time, its_hash = after.split("_")
            query = query.where(sa.tuple_(*_age) < sa.tuple_(int(time), its_hash))
        with database.connect_for_reading(self._engine) as connection:
            rows = connection.execute(query.limit(wanted + 1)).all()
        images = [blocked_image(*row) for row in rows[:wanted]]
        last = rows[wanted - 1] if len(rows) > wanted else None
        return ListPage(images, last and f"{last.created_at}_{last.content_hash}")

    @database_call
    def suggest_blocked(self, bucket: str | None = None, limit: int | None = None) -> list[Entry]:
        """Find images that may be placeholders, because many unrelated URLs led to them.

        Two URLs are unrelated if their paths differ: neither another host nor another query makes
        them so. Of the newest million captures, the images with the most captures are examined,
        and of each up to a thousand URLs.

        Args:
            bucket: the bucket to look in; None for all buckets.
            limit: maximum number of images.

        Returns:
            The newest capture of each image with at least `MIN_PATHS` paths that is not blocked,
            with the numbers of `paths` and `hosts`, the one with the most paths first.
        """
        with database.connect_for_reading(self._engine) as connection:
            counts = {
                name: _count_parts(connection, name, bucket)
                for name in _most_captured(connection, bucket)
            }
            suspect = [name for name, (paths, _) in counts.items() if paths >= MIN_PATHS]
            newest = newest_of_images(connection, suspect, bucket).values()
            rows = rows_of(connection, [each.capture_id for each in newest]).values()
        found = [entry_of(row) for row in rows if not row["damaged"]]
        for entry in found:
            entry["paths"], entry["hosts"] = counts[entry["content_hash"]]
        return sorted(found, key=lambda entry: -entry["paths"])[:limit]


def _most_captured(connection: Connection, bucket: str | None) -> list[str]:
    """Return the hashes of the images with the most captures that are not blocked."""
    newest = connection.scalar(sa.select(sa.func.max(_capture.c.id))) or 0
    is_blocked = sa.exists().where(_blocked.c.content_hash == _capture.c.content_hash)
    captures = sa.func.count()
    query = (
        in_bucket(sa.select(_capture.c.content_hash), bucket)
        .where(_capture.c.id > newest - _MAX_CAPTURES, ~is_blocked)
        .group_by(_capture.c.content_hash)
        .having(captures >= MIN_PATHS)
        .order_by(captures.desc(), _capture.c.content_hash)
        .limit(MAX_SUGGESTIONS)
    )
    return list(connection.scalars(query))


def _count_parts(connection: Connection, content_hash: str, bucket: str | None) -> tuple[int, int]:
    """Return the number of different paths and of different hosts of an image's URLs."""
    urls = in_bucket(_urls_of, bucket).subquery()
    query = sa.select(json_rows(urls.c.url))
    found = [url for (url,) in fetch_json(connection, query, its_hash=content_hash)]
    return len({_path_of(url) for url in found}), len({host_of(url) for url in found})


def _path_of(url: str) -> str:
    try:
        return urlsplit(url).path
    except ValueError:
        return url
