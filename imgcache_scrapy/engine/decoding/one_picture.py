"""Compute the perceptual hash of one picture, in a child process that ends with it."""

from contextlib import closing

from imgcache_scrapy.engine.decoding.decoder import Decoder
from imgcache_scrapy.engine.decoding.messages import ImageInfo
from imgcache_scrapy.engine.decoding.signatures import may_be_decoded


def perceptual_hash_of(data: bytes) -> str | None:
    """Return the perceptual hash of a picture; None if it cannot be decoded, or has none.

    Args:
        data: the whole picture; it may be of any format, broken or hostile.
    """
    if not may_be_decoded(data):
        return None
    with closing(Decoder()) as decoder:
        decoder.start()
        info = decoder.decode(data)
    return None if info is None else hash_text(info)


def hash_text(info: ImageInfo) -> str | None:
    """Return the perceptual hash of a decoded picture in 16 hex digits; None if it has none."""
    return None if info.perceptual_hash is None else f"{info.perceptual_hash:016x}"
