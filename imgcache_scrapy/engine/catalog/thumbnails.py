"""ThumbnailSources: the query for what a thumbnail is made of."""

from typing import NamedTuple

import sqlalchemy as sa

from imgcache_scrapy.engine.catalog import database
from imgcache_scrapy.engine.catalog.database import database_call
from imgcache_scrapy.engine.catalog.opening import OpenCatalog
from imgcache_scrapy.engine.catalog.tables import capture as _capture
from imgcache_scrapy.engine.catalog.tables import image as _image
from imgcache_scrapy.engine.catalog.tables import is_blocked

# Built once, because building a statement takes longer than running it.
_find = sa.select(_image.c.damaged, is_blocked.label("is_blocked"), _image.c.decode_error).where(
    _image.c.content_hash == sa.bindparam("its_hash")
)
_find_in_bucket = (
    _find.join(_capture).where(_capture.c.bucket == sa.bindparam("its_bucket")).limit(1)
)


class ThumbnailSource(NamedTuple):
    """What the catalog knows about an image before its thumbnail is made.

    Attributes:
        is_damaged: whether its bytes are damaged.
        is_blocked: whether it is blocked.
        decode_error: why it cannot be decoded; None if it can, or if it is not known.
    """

    is_damaged: bool
    is_blocked: bool
    decode_error: str | None


class ThumbnailSources(OpenCatalog):
    """The query of a catalog for thumbnails."""

    @database_call
    def thumbnail_source(
        self, content_hash: str, bucket: str | None = None
    ) -> ThumbnailSource | None:
        """Return what is known about an image; None if it is not in the bucket.

        A bucket of None means all buckets.
        """
        query = _find if bucket is None else _find_in_bucket
        values = {"its_hash": content_hash, "its_bucket": bucket}
        with database.connect_for_reading(self._engine) as connection:
            row = connection.execute(query, values).first()
        return None if row is None else ThumbnailSource(*row)
