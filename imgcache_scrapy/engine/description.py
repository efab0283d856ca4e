"""Describe an image for the catalog: its type, its size and what the decoder found."""

from imgcache_scrapy.core.entry import UNKNOWN_TYPE
from imgcache_scrapy.core.formats import sniff
from imgcache_scrapy.engine.catalog.rows import Image
from imgcache_scrapy.engine.decoding.messages import ImageInfo
from imgcache_scrapy.engine.decoding.one_picture import hash_text


def image_of(content_hash: str, data: bytes, info: ImageInfo) -> Image:
    """Return what the catalog records of an image.

    Args:
        content_hash: the hash of its bytes.
        data: its bytes.
        info: what the decoder found in them.
    """
    return Image(
        content_hash,
        sniff(data) or UNKNOWN_TYPE,
        len(data),
        info.width,
        info.height,
        hash_text(info),
        info.decode_error,
    )
