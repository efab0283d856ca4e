"""Search captures by a part of their URL, one page at a time."""

from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from imgcache_scrapy.core.batches import batches
from imgcache_scrapy.core.entry import Entry
from imgcache_scrapy.core.limits import MAX_PAGE_CHARACTERS
from imgcache_scrapy.core.pages import Page
from imgcache_scrapy.engine.catalog import url_index
from imgcache_scrapy.engine.catalog.ages import age_and_order, age_of
from imgcache_scrapy.engine.catalog.functions import contains, hexadecimal, json_rows
from imgcache_scrapy.engine.catalog.paging import (
    MAX_VALUES,
    characters,
    count_of_fitting,
    fetch_json,
    page_size,
    rows_of,
)
from imgcache_scrapy.engine.catalog.rows import entry_of
from imgcache_scrapy.engine.catalog.tables import capture, image, in_bucket

# Most URLs have one capture. If many have more, a larger part needs fewer queries.
_MAX_PART = 8000


class _Match(NamedTuple):
    """A capture of a sound image whose URL contains the text; ordered by time, then by id."""

    time: int
    capture_id: int
    digest: str
    characters: int

    @property
    def position(self) -> str:
        return f"{self.time}_{self.capture_id}"


class Search:
    """One page of the newest captures of URLs that contain a text; see `Catalog.search_page`.

    Args:
        connection: to the database.
        url_contains: the text.
        bucket: the bucket to look in; None for all buckets.
    """

    def __init__(self, connection: Connection, url_contains: str, bucket: str | None) -> None:
        self._connection = connection
        self._url_contains = url_contains
        self._bucket = bucket
        self._candidates = url_index.candidates(connection, url_contains)
        self._seen: set[str] = set()
        self._age, self._order = age_and_order(connection)

    def page(self, limit: int | None, after: str | None) -> Page:
        """Return the page after a position, or the first one; `limit` is its maximum length."""
        wanted, room = page_size(limit), MAX_PAGE_CHARACTERS
        entries: list[Entry] = []
        position, count = after, wanted + 1
        while True:
            part = self._part(position, count)
            new = self._new_urls(part, after)
            while new and len(entries) < wanted:
                sizes = [match.characters for match in new[: wanted - len(entries)]]
                count_taken = count_of_fitting(sizes, room, is_first=not entries)
                if count_taken == 0:
                    break
                entries += self._entries(new[:count_taken])
                room -= sum(sizes[:count_taken])
                position, new = new[count_taken - 1].position, new[count_taken:]
            if new:
                return Page(entries, position)
            if self._candidates is not None or len(part) < count:
                return Page(entries)
            position = part[-1].position
            if len(entries) == wanted:
                return Page(entries, position)
            count = min(2 * count, _MAX_PART)

    def _part(self, after: str | None, count: int) -> list[_Match]:
        """Return matching captures after a position, newest first: `count`, or all candidates."""
        columns = (*self._age, capture.c.url_digest, characters.label("characters"))
        query = in_bucket(sa.select(*columns).join(image), self._bucket).where(~image.c.damaged)
        query = query.where(contains(capture.c.url, self._url_contains))
        if after is not None:
            query = query.where(sa.tuple_(*self._age) < sa.tuple_(*age_of(after)))
        if self._candidates is None:
            query = query.order_by(*self._order).limit(count)
        else:
            # Without a limit: SQLite might then read all captures in their order.
            query = query.where(capture.c.id.in_(self._candidates))
        time, its_id, digest, size = query.subquery().c
        rows = fetch_json(
            self._connection, sa.select(json_rows(time, its_id, hexadecimal(digest), size))
        )
        return sorted((_Match(*row) for row in rows), reverse=True)

    def _new_urls(self, part: list[_Match], after: str | None) -> list[_Match]:
        """Return the first capture of each URL that no earlier part and no earlier page has."""
        first: dict[str, _Match] = {}
        for match in part:
            if match.digest not in self._seen:
                first.setdefault(match.digest, match)
        self._seen |= first.keys()
        listed = self._listed_before(list(first), after)
        return [match for digest, match in first.items() if digest not in listed]

    def _listed_before(self, digests: list[str], after: str | None) -> set[str]:
        if after is None:
            return set()
        digest = capture.c.url_digest
        query = in_bucket(sa.select(digest).distinct().join(image), self._bucket).where(
            digest.in_(sa.bindparam("digests", expanding=True)),
            sa.tuple_(*self._age) >= sa.tuple_(*age_of(after)),
            ~image.c.damaged,
        )
        rows = sa.select(json_rows(hexadecimal(query.subquery().c.url_digest)))
        return {
            digest
            for batch in batches(digests, MAX_VALUES)
            for (digest,) in fetch_json(
                self._connection, rows, digests=[bytes.fromhex(each) for each in batch]
            )
        }

    def _entries(self, matches: list[_Match]) -> list[Entry]:
        rows = rows_of(self._connection, [match.capture_id for match in matches])
        found = (rows.get(match.capture_id) for match in matches)
        return [entry_of(row) for row in found if row is not None and not row["damaged"]]
