"""Gallery: the queries that show images to people: each image once, and all facts of one."""

from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from imgcache_scrapy.core.batches import batches
from imgcache_scrapy.core.filters import Filters
from imgcache_scrapy.core.pages import Page
from imgcache_scrapy.core.times import iso
from imgcache_scrapy.engine.catalog import database
from imgcache_scrapy.engine.catalog.ages import age_and_order, age_of
from imgcache_scrapy.engine.catalog.database import database_call
from imgcache_scrapy.engine.catalog.functions import json_rows
from imgcache_scrapy.engine.catalog.listing import conditions, few_candidates
from imgcache_scrapy.engine.catalog.opening import OpenCatalog
from imgcache_scrapy.engine.catalog.paging import (
    MAX_VALUES,
    characters,
    count_of_fitting,
    fetch_json,
    page_size,
    rows_of,
)
from imgcache_scrapy.engine.catalog.rows import entry_of
from imgcache_scrapy.engine.catalog.tables import blocked, capture, image

# Captures that one page reads at most, if most of them are of images that it has already.
_MAX_ROWS = 20_000
# An image without a hash has no bands, which have an index.
_has_no_size = sa.and_(image.c.band0.is_(None), image.c.width.is_(None))


class ImageFacts(NamedTuple):
    """What the catalog knows of an image itself.

    Attributes:
        content_hash: its hash.
        content_type: recognised from its first bytes.
        file_size_bytes: length of its bytes.
        is_damaged: whether its bytes are damaged.
        is_decoded: whether its size in pixels is known.
        decode_error: a `DecodeError`; None if it is decoded, or not decoded yet.
        captures: the number of its captures.
        first_seen: when its first capture was made, ISO 8601, UTC; None if it has none.
        buckets: the buckets of its captures.
        blocked_for: the reason if it is blocked, which may be empty; None if it is not.
    """

    content_hash: str
    content_type: str
    file_size_bytes: int
    is_damaged: bool
    is_decoded: bool
    decode_error: str | None
    captures: int
    first_seen: str | None
    buckets: list[str]
    blocked_for: str | None


class Gallery(OpenCatalog):
    """The queries of a catalog that show images to people."""

    @database_call
    def gallery_page(
        self,
        filters: Filters,
        limit: int | None = None,
        after: str | None = None,
        *,
        not_decoded: bool = False,
    ) -> Page:
        """Return some images that have a capture which meets filters, newest first.

        Args:
            filters: the conditions.
            limit: maximum number of images; None for a whole page.
            after: the position after which the page begins; None for the first page.
            not_decoded: only images whose size in pixels is not known.

        Returns:
            The newest of the captures of each image that meet the filters. A page may be short,
            or empty, also if more follow.
        """
        with database.connect_for_reading(self._engine) as connection:
            return _Images(connection, filters, not_decoded=not_decoded).page(limit, after)

    @database_call
    def image_facts(self, content_hash: str) -> ImageFacts | None:
        """Return what is known of an image, which may be damaged; None if there is none."""
        its_captures = capture.c.content_hash == content_hash
        count = sa.select(sa.func.count(), sa.func.min(capture.c.created_at)).where(its_captures)
        buckets = sa.select(capture.c.bucket).where(its_captures).distinct()
        with database.connect_for_reading(self._engine) as connection:
            row = connection.execute(
                sa.select(image).where(image.c.content_hash == content_hash)
            ).first()
            if row is None:
                return None
            captures, first_seen = connection.execute(count).one()
            return ImageFacts(
                content_hash,
                row.content_type,
                row.file_size_bytes,
                row.damaged,
                row.width is not None,
                row.decode_error,
                captures,
                None if first_seen is None else iso(first_seen),
                sorted(connection.scalars(buckets)),
                _reason_of(connection, content_hash),
            )

    @database_call
    def blocked_reason(self, content_hash: str) -> str | None:
        """Return why an image is blocked, which may be empty; None if it is not blocked."""
        with database.connect_for_reading(self._engine) as connection:
            return _reason_of(connection, content_hash)


def _reason_of(connection: Connection, content_hash: str) -> str | None:
    its_row = blocked.c.content_hash == content_hash
    return connection.scalar(sa.select(blocked.c.reason).where(its_row))


class _Found(NamedTuple):
    """A capture that meets the filters; ordered by time, then by id."""

    time: int
    capture_id: int
    content_hash: str
    characters: int

    @property
    def age(self) -> tuple[int, int]:
        return self.time, self.capture_id


class _Images:
    """One page of `Gallery.gallery_page`."""

    def __init__(self, connection: Connection, filters: Filters, *, not_decoded: bool) -> None:
        self._connection = connection
        self._age, self._order = age_and_order(connection)
        self._meets = conditions(filters, self._age[0])
        self._meets += [_has_no_size] if not_decoded else []
        few = [sa.select(capture.c.id).join(image).where(_has_no_size)] if not_decoded else []
        self._candidates = few_candidates(connection, filters, few)
        self._seen: set[str] = set()

    def page(self, limit: int | None, after: str | None) -> Page:
        wanted = page_size(limit)
        start = None if after is None else age_of(after)
        if self._candidates is None:
            found, end = self._scan(wanted, start)
        else:
            first = self._first_of_each_image(self._part(None, None))
            found, end = [each for each in first if start is None or each.age < start], None
        count = count_of_fitting(each.characters for each in found[:wanted])
        if count < len(found):
            end = found[count - 1].age
        taken = found[:count]
        rows = rows_of(self._connection, [each.capture_id for each in taken])
        entries = [entry_of(rows[each.capture_id]) for each in taken if each.capture_id in rows]
        return Page(entries, None if end is None else "{}_{}".format(*end))

    def _scan(
        self, wanted: int, start: tuple[int, int] | None
    ) -> tuple[list[_Found], tuple[int, int] | None]:
        """Read the newest captures until there are enough images.

        Returns:
            The images, and the position of the last capture that was read; None at the end.
        """
        found: list[_Found] = []
        position, count, rows = start, 2 * wanted, 0
        while len(found) <= wanted and rows < _MAX_ROWS:
            part = self._part(position, count)
            first = self._first_of_each_image(part)
            listed = self._listed_before([each.content_hash for each in first], start)
            found += [each for each in first if each.content_hash not in listed]
            if len(part) < count:
                return found, None
            position, rows = part[-1].age, rows + count
            count *= 2
        return found, position

    def _part(self, after: tuple[int, int] | None, count: int | None) -> list[_Found]:
        """Return captures that meet the filters, newest first: `count`, or all candidates."""
        columns = (*self._age, capture.c.content_hash, characters.label("characters"))
        query = sa.select(*columns).join(image).where(*self._meets)
        if after is not None:
            query = query.where(sa.tuple_(*self._age) < sa.tuple_(*after))
        if self._candidates is not None:
            # Without a limit: SQLite might then read all captures in their order.
            query = query.where(capture.c.id.in_(self._candidates))
        else:
            query = query.order_by(*self._order).limit(count)
        rows: list[Any] = fetch_json(self._connection, sa.select(json_rows(*query.subquery().c)))
        return sorted((_Found(*row) for row in rows), reverse=True)

    def _first_of_each_image(self, part: list[_Found]) -> list[_Found]:
        first: dict[str, _Found] = {}
        for each in part:
            if each.content_hash not in self._seen:
                first.setdefault(each.content_hash, each)
        self._seen |= first.keys()
        return list(first.values())

    def _listed_before(self, names: list[str], start: tuple[int, int] | None) -> set[str]:
        """Return which images an earlier page has."""
        if start is None:
            return set()
        query = sa.select(capture.c.content_hash).distinct().join(image).where(
            capture.c.content_hash.in_(sa.bindparam("names", expanding=True)),
            sa.tuple_(*self._age) >= sa.tuple_(*start),
            *self._meets,
        )  # fmt: skip
        rows = sa.select(json_rows(query.subquery().c.content_hash))
        return {
            name
            for batch in batches(names, MAX_VALUES)
            for (name,) in fetch_json(self._connection, rows, names=batch)
        }
