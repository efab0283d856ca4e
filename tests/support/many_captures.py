"""Caches with many captures, which are written without stores, because these take long."""

from datetime import UTC, datetime

from imgcache_scrapy.core.entry import content_hash_of
from imgcache_scrapy.engine.catalog.rows import Capture, Image
from imgcache_scrapy.engine.catalog.tables import capture, image
from tests.support import schema_1

FETCHED = datetime(2026, 1, 30, tzinfo=UTC)


def fill(cache, folder, urls, start=b"the image of "):
    """Give each URL an image of its own.

    Args:
        cache: the cache, which has none of these images.
        folder: the folder of its blobs.
        urls: the URLs.
        start: the bytes of each image before its URL.

    Returns:
        The bytes of the images, in the order of the URLs.
    """
    images = [start + url.encode() for url in urls]
    names = [content_hash_of(data) for data in images]
    schema_1.put(dict(zip(names, images, strict=True)), folder)
    image_rows = [
        Image(name, "image/gif", len(data), 1, 1, None).row()
        for name, data in zip(names, images, strict=True)
    ]
    rows = [
        Capture(url, "", "me", None, FETCHED).row() | {"content_hash": name, "created_at": 1}
        for url, name in zip(urls, names, strict=True)
    ]
    with cache.catalog.exclusive([]) as transaction:
        transaction.connection.execute(image.insert(), image_rows)
        transaction.connection.execute(capture.insert(), rows)
    return images
