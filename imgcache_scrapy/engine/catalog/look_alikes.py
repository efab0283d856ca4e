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
from imgcache_scrapy.engine.catalog.tables import capture
from imgcache_scrapy.engine.catalog.tables import image as _image

_bands = [_image.c[f"band{i}"] for i in range(BAND_COUNT)]
# Count the bits of a number of 14 bits: copy it to five places, keep every fourth bit of the
# copies, and add the digits in base 16. See Anderson, "Bit Twiddling Hacks".
_COPIES = 0x200040008001
_EVERY_FOURTH = 0x111111111111111
_DIGIT_SUM = 15


def look_alikes(
    connection: Connection,
    perceptual_hash: int,
    max_distance: int,
    bucket: str | None,
    *,
    limit: int | None,
    after: str | None,
) -> Page:
    """Return a page of the images near a perceptual hash; see `Catalog.similar_page`."""
    page = Page([], after)
    # An empty page, whose images were deleted meanwhile, would look like the end.
    while not page.entries:
        page = _page(
            connection, perceptual_hash, max_distance, bucket, limit=limit, after=page.after
        )
        if page.after is None:
            break
    return page


def _page(
    connection: Connection,
    perceptual_hash: int,
    max_distance: int,
    bucket: str | None,
    *,
    limit: int | None,
    after: str | None,
) -> Page:
    wanted = page_size(limit)
    nearest = _nearest(
        connection, perceptual_hash, max_distance, bucket, after=after, count=wanted + 1
    )
    newest = newest_of_images(connection, [found for _, found in nearest[:wanted]], bucket)
    sizes = [newest[found].characters if found in newest else 0 for _, found in nearest[:wanted]]
    taken = nearest[: count_of_fitting(sizes)]
    ids = [newest[found].capture_id for _, found in taken if found in newest]
    rows = {row["content_hash"]: row for row in rows_of(connection, ids).values()}
    entries = []
    for distance, found in taken:
        if found in rows and not rows[found]["damaged"]:
            entry = entry_of(rows[found])
            entry["distance"] = distance
            entries.append(entry)
    is_last = len(taken) == len(nearest)
    return Page(entries, None if is_last else "{}_{}".format(*taken[-1]))


def _nearest(
    connection: Connection,
    perceptual_hash: int,
    max_distance: int,
    bucket: str | None,
    *,
    after: str | None,
    count: int,
) -> list[tuple[int, str]]:
    """Return distances and content hashes after a position, in this order."""
    distance = _distance(perceptual_hash)
    query = sa.select(distance.label("distance"), _image.c.content_hash).where(
        _image.c.perceptual_hash.is_not(None), ~_image.c.damaged
    )
    candidates = band_candidates(perceptual_hash, max_distance)
    if candidates is not None:
        near = zip(_bands, candidates, strict=True)
        query = query.where(sa.or_(*(band.in_(values) for band, values in near)))
    if max_distance < PERCEPTUAL_HASH_BITS:
        query = query.where(distance <= max_distance)
    if bucket is not None:
        in_bucket = sa.select(capture.c.id).where(
            capture.c.content_hash == _image.c.content_hash, capture.c.bucket == bucket
        )
        query = query.where(in_bucket.exists())
    if after is not None:
        far, found = after.split("_")
        query = query.where(sa.tuple_(distance, _image.c.content_hash) > sa.tuple_(int(far), found))
    part = query.order_by(distance, _image.c.content_hash).limit(count).subquery().c
    rows = fetch_json(connection, sa.select(json_rows(part.distance, part.content_hash)))
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
