"""Catalog: every query on images and captures, the same for SQLite and PostgreSQL."""

from collections.abc import Collection, Iterable

import sqlalchemy as sa

from imgcache_scrapy.core.entry import Entry
from imgcache_scrapy.core.pages import Page
from imgcache_scrapy.engine.catalog import database
from imgcache_scrapy.engine.catalog.audit_list import AuditList
from imgcache_scrapy.engine.catalog.blocked import BlockedImages
from imgcache_scrapy.engine.catalog.blocked_sources import BlockedSources
from imgcache_scrapy.engine.catalog.database import database_call
from imgcache_scrapy.engine.catalog.failures import RememberedFailures
from imgcache_scrapy.engine.catalog.gallery import Gallery
from imgcache_scrapy.engine.catalog.history import Histories
from imgcache_scrapy.engine.catalog.image_uses import ImageUses
from imgcache_scrapy.engine.catalog.last_use import LastUses
from imgcache_scrapy.engine.catalog.listing import Listings
from imgcache_scrapy.engine.catalog.look_alikes import LookAlikes
from imgcache_scrapy.engine.catalog.newest import newest_hits
from imgcache_scrapy.engine.catalog.paging import newest_of_images, rows_of
from imgcache_scrapy.engine.catalog.removal import Removals
from imgcache_scrapy.engine.catalog.rows import Image, entry_of
from imgcache_scrapy.engine.catalog.search import Search
from imgcache_scrapy.engine.catalog.sums import Sums
from imgcache_scrapy.engine.catalog.tables import capture as _capture
from imgcache_scrapy.engine.catalog.tables import image as _image
from imgcache_scrapy.engine.catalog.tables import is_not_decoded
from imgcache_scrapy.engine.catalog.thumbnails import ThumbnailSources
from imgcache_scrapy.engine.catalog.whole_rows import WholeRows

# Built once, because building a statement takes longer than running it.
_find_images = sa.select(*(_image.c[name] for name in Image._fields)).where(
    _image.c.content_hash.in_(sa.bindparam("hashes", expanding=True)), ~_image.c.damaged
)
# Without captures, because a rebuilt catalog has images without a URL.
_find_type_and_size = sa.select(_image.c.content_type, _image.c.file_size_bytes).where(
    _image.c.content_hash == sa.bindparam("its_hash"), ~_image.c.damaged
)
_find_type_and_size_in_bucket = (
    _find_type_and_size.join(_capture)
    .where(_capture.c.bucket == sa.bindparam("its_bucket"))
    .limit(1)
)
_find_known = sa.select(_image.c.content_hash).where(
    _image.c.content_hash.in_(sa.bindparam("hashes", expanding=True))
)
_oldest_not_decoded = (
    sa.select(_image.c.content_hash)
    # A rebuilt catalog has images without a capture.
    .outerjoin(_capture)
    .where(is_not_decoded, ~_image.c.damaged)
    .order_by(_capture.c.id)
    .limit(1)
)
_count_by_bucket = sa.select(_capture.c.bucket, sa.func.count().label("captures")).group_by(
    _capture.c.bucket
)
_rows_after = (
    sa.select(_image.c.content_hash, _image.c.file_size_bytes, _image.c.damaged)
    .where(_image.c.content_hash > sa.bindparam("after"))
    .order_by(_image.c.content_hash)
    .limit(sa.bindparam("limit"))
)


class Catalog(
    AuditList,
    BlockedImages,
    BlockedSources,
    Gallery,
    Histories,
    ImageUses,
    LastUses,
    Listings,
    RememberedFailures,
    Removals,
    Sums,
    ThumbnailSources,
    WholeRows,
):
    """The tables of a cache and their queries; see `OpenCatalog` for the arguments."""

    @database_call
    def images(self, content_hashes: Iterable[str]) -> dict[str, Image]:
        """Return the images that are not damaged, by their content hash."""
        with database.connect_for_reading(self._engine) as connection:
            rows = connection.execute(_find_images, {"hashes": list(content_hashes)})
            return {row.content_hash: Image(*row) for row in rows}

    @database_call
    def lookup_many(
        self,
        keys: Iterable[str],
        bucket: str | None = None,
        without: Collection[str] = (),
        accept: str | None = None,
    ) -> dict[str, Entry]:
        """Return the newest capture of each key: the latest lookup time, then the latest insertion.

        Args:
            keys: the cache keys.
            bucket: the bucket to look in; None for all buckets.
            without: the hashes of images to leave out, as damaged images are.
            accept: the header `Accept` of the request that a hit will answer, empty if it has
                none; captures whose response depends on another value are left out. None for all
                captures.

        Returns:
            The entries by key. Keys without a capture of a sound image are missing.
        """
        with database.connect_for_reading(self._engine) as connection:
            rows = newest_hits(connection, keys, bucket, without, accept)
        # A later row replaces an earlier one of the same key.
        return {row["key"] or row["url"]: entry_of(row) for row in rows}

    @database_call
    def type_and_size(self, content_hash: str, bucket: str | None) -> tuple[str, int] | None:
        """Return content type and bytes of an image; None if it is damaged or not in the bucket.

        A bucket of None means all buckets.
        """
        query = _find_type_and_size if bucket is None else _find_type_and_size_in_bucket
        values = {"its_hash": content_hash, "its_bucket": bucket}
        with database.connect_for_reading(self._engine) as connection:
            row = connection.execute(query, values).first()
        return None if row is None else (row.content_type, row.file_size_bytes)

    @database_call
    def get_meta(self, content_hash: str, bucket: str | None = None) -> Entry | None:
        """Return the newest capture of an image.

        Args:
            content_hash: the hash of the image.
            bucket: the bucket to look in; None for all buckets.

        Returns:
            The entry; None if there is no capture, or if the image is damaged.
        """
        with database.connect_for_reading(self._engine) as connection:
            newest = newest_of_images(connection, [content_hash], bucket).values()
            rows = rows_of(connection, [listed.capture_id for listed in newest]).values()
        return next((entry_of(row) for row in rows if not row["damaged"]), None)

    @database_call
    def search_page(
        self,
        url_contains: str,
        bucket: str | None = None,
        limit: int | None = None,
        after: str | None = None,
    ) -> Page:
        """Return some captures whose URL contains a text.

        Args:
            url_contains: the text; case-sensitive, and no character has a special meaning.
            bucket: the bucket to look in; None for all buckets.
            limit: maximum number of entries; None for a whole page.
            after: the position after which the page begins; None for the first page.

        Returns:
            The newest capture of each URL, newest first.
        """
        with database.connect_for_reading(self._engine) as connection:
            return Search(connection, url_contains, bucket).page(limit, after)

    @database_call
    def similar_page(
        self,
        perceptual_hash: str,
        max_hamming_distance: int,
        bucket: str | None = None,
        limit: int | None = None,
        after: str | None = None,
    ) -> Page:
        """Return some images whose perceptual hash is near the given one.

        The result is exact. It is found by multi-index hashing; see Norouzi, Punjani and Fleet,
        "Fast search in Hamming space with multi-index hashing", CVPR 2012: if two hashes differ in
        few bits, at least one of their bands differs in very few bits.

        Args:
            perceptual_hash: 16 hex digits.
            max_hamming_distance: maximum number of different bits, 0 to 64.
            bucket: only images with a capture in this bucket; None for all buckets.
            limit: maximum number of entries; None for a whole page.
            after: the position after which the page begins; None for the first page.

        Returns:
            The newest capture of each image, with its `distance`, nearest first.
        """
        wanted = int(perceptual_hash, 16)
        with database.connect_for_reading(self._engine) as connection:
            near = LookAlikes(connection, wanted, max_hamming_distance, bucket)
            return near.page(limit, after)

    @database_call
    def next_not_decoded(self) -> str | None:
        """Return the hash of the oldest image that is not decoded yet; None if there is none."""
        with database.connect_for_reading(self._engine) as connection:
            return connection.scalar(_oldest_not_decoded)

    @database_call
    def stats(self) -> dict[str, int]:
        """Return the number of `images`, `captures`, `bytes` and `damaged` images."""
        query = sa.select(
            sa.func.count().label("images"),
            sa.func.coalesce(sa.func.sum(_image.c.file_size_bytes), 0).label("bytes"),
            sa.func.count().filter(_image.c.damaged).label("damaged"),
            sa.select(sa.func.count()).select_from(_capture).scalar_subquery().label("captures"),
        )
        with database.connect_for_reading(self._engine) as connection:
            return {
                key: int(value) for key, value in connection.execute(query).mappings().one().items()
            }

    @database_call
    def buckets(self) -> dict[str, int]:
        """Return the number of captures in each bucket that has any, in alphabetical order."""
        with database.connect_for_reading(self._engine) as connection:
            counts = {row.bucket: row.captures for row in connection.execute(_count_by_bucket)}
        return dict(sorted(counts.items()))

    @database_call
    def known(self, content_hashes: Collection[str]) -> set[str]:
        """Return which of these images have a row; damaged images have one, too."""
        with database.connect_for_reading(self._engine) as connection:
            return set(connection.scalars(_find_known, {"hashes": list(content_hashes)}))

    @database_call
    def rows_after(self, content_hash: str, limit: int) -> list[tuple[str, int, bool]]:
        """List images in the order of their hashes, including damaged images.

        Args:
            content_hash: list the images after this hash; "" is before all hashes.
            limit: maximum number of images.

        Returns:
            The content hash of each image, its size in bytes, and whether it is damaged.
        """
        values = {"after": content_hash, "limit": limit}
        with database.connect_for_reading(self._engine) as connection:
            return [tuple(row) for row in connection.execute(_rows_after, values)]

    def check(self) -> None:
        """Run a query; it raises `UnavailableError` if the catalog does not work."""
        self.check_in_place()
        self.lookup_many(["about:health"])  # Any key will do, whether it is there or not.
