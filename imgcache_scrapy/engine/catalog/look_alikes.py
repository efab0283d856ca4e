"""Find images whose perceptual hash is near a given one, one page at a time."""

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from imgcache_scrapy.core.limits import PERCEPTUAL_HASH_BITS
from imgcache_scrapy.core.pages import Page
from imgcache_scrapy.engine.catalog.functions import json_rows
from imgcache_scrapy.engine.catalog.paging import (
    count_of_fitting,
    fetch_json,
    newest_of_images,
    page_size,
    rows_of,
)
from imgcache_scrapy.engine.catalog.rows import entry_of
from imgcache_scrapy.engine.catalog.similarity import BAND_COUNT, band_candidates, bands
from imgcache_scrapy.engine.catalog.tables import capture, in_bucket
from imgcache_scrapy.engine.catalog.tables import image as _image

_bands = [_image.c[f"band{i}"] for i in range(BAND_COUNT)]
# Count the bits of a number of 14 bits: copy it to five places, keep every fourth bit of the
# copies, and add the digits in base 16. See Anderson, "Bit Twiddling Hacks".
_COPIES = 0x200040008001
_EVERY_FOURTH = 0x111111111111111
_DIGIT_SUM = 15


class LookAlikes:
    """The images whose perceptual hash is near a given one; see `Catalog.similar_page`.

    Args:
        connection: to the database.
        perceptual_hash: 64 bits.
        max_distance: maximum number of different bits.
        bucket: only images with a capture in this bucket; None for all buckets.
    """

    def __init__(
        self, connection: Connection, perceptual_hash: int, max_distance: int, bucket: str | None
    ) -> None:
        self._connection = connection
        self._hash = perceptual_hash
        self._max_distance = max_distance
        self._bucket = bucket

    def page(self, limit: int | None, after: str | None) -> Page:
        """Return the page after a position, or the first one; `limit` is its maximum length."""
        page: Page = Page([], after)
        # An empty page, whose images were deleted meanwhile, would look like the end.
        while not page.entries:
            page = self._page(page_size(limit), page.after)
            if page.after is None:
                break
        return page

    def _page(self, wanted: int, after: str | None) -> Page:
        nearest = self._nearest(after, wanted + 1)
        names = [found for _, found in nearest[:wanted]]
        newest = newest_of_images(self._connection, names, self._bucket)
        sizes = [newest[name].characters if name in newest else 0 for name in names]
        taken = nearest[: count_of_fitting(sizes)]
        ids = [newest[found].capture_id for _, found in taken if found in newest]
        rows = {row["content_hash"]: row for row in rows_of(self._connection, ids).values()}
        entries = []
        for distance, found in taken:
            if found in rows and not rows[found]["damaged"]:
                entry = entry_of(rows[found])
                entry["distance"] = distance
                entries.append(entry)
        is_last = len(taken) == len(nearest)
        return Page(entries, None if is_last else "{}_{}".format(*taken[-1]))

    def _nearest(self, after: str | None, count: int) -> list[tuple[int, str]]:
        """Return distances and content hashes after a position, in this order."""
        distance = _distance(self._hash)
        query = sa.select(distance.label("distance"), _image.c.content_hash).where(
            _image.c.perceptual_hash.is_not(None), ~_image.c.damaged
        )
        candidates = band_candidates(self._hash, self._max_distance)
        if candidates is not None:
            near = zip(_bands, candidates, strict=True)
            query = query.where(sa.or_(*(band.in_(values) for band, values in near)))
        if self._max_distance < PERCEPTUAL_HASH_BITS:
            query = query.where(distance <= self._max_distance)
        if self._bucket is not None:
            of_image = capture.c.content_hash == _image.c.content_hash
            captures = in_bucket(sa.select(capture.c.id).where(of_image), self._bucket)
            query = query.where(captures.exists())
        if after is not None:
            far, found = after.split("_")
            position = sa.tuple_(int(far), found)
            query = query.where(sa.tuple_(distance, _image.c.content_hash) > position)
        part = query.order_by(distance, _image.c.content_hash).limit(count).subquery().c
        rows = fetch_json(self._connection, sa.select(json_rows(part.distance, part.content_hash)))
        return sorted((far, found) for far, found in rows)


def _distance(perceptual_hash: int) -> sa.ColumnElement[int]:
    """Return SQL for the number of bits in which an image's perceptual hash differs."""
    # The database counts without Python, whose interpreter lock would stop all requests.
    counts = [
        (_different(band, value) * sa.cast(_COPIES, sa.BigInteger))
        .bitwise_and(sa.cast(_EVERY_FOURTH, sa.BigInteger))
        .self_group()
        % _DIGIT_SUM
        for band, value in zip(_bands, bands(perceptual_hash), strict=True)
    ]
    return sum(counts[1:], start=counts[0])


def _different(band: sa.ColumnElement[int], value: int) -> sa.ColumnElement[int]:
    # SQLite has no operator for XOR.
    return band.bitwise_or(value) - band.bitwise_and(value)
