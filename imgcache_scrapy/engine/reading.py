"""Read a large image part by part, so that its whole bytes are never in memory."""

from collections.abc import AsyncGenerator
from functools import partial
from typing import NamedTuple

from imgcache_scrapy.core.entry import content_hasher
from imgcache_scrapy.core.errors import (
    NotFoundError,
    UnavailableError,
    not_found,
    without_bytes,
)
from imgcache_scrapy.engine.async_cache import AsyncImageCache
from imgcache_scrapy.engine.cache import ImageCache

# Size in bytes of the parts in which a large image is checked.
_PART = 2**20


class OpenImage(NamedTuple):
    """An image of the cache.

    Attributes:
        content_type: its content type.
        size: its number of bytes.
        data: its bytes, which have been checked; None if there are too many for one read.
    """

    content_type: str
    size: int
    data: bytes | None


async def open_image(
    images: AsyncImageCache, content_hash: str, bucket: str | None, max_bytes: int
) -> OpenImage:
    """Find an image and check its bytes; keep them if there are at most `max_bytes`.

    Raises:
        NotFoundError: as `ImageCache.get_image`.
    """

    def find(cache: ImageCache) -> OpenImage:
        found = cache.catalog.type_and_size(content_hash, bucket)
        if found is None:
            raise not_found(content_hash, bucket)
        content_type, size = found
        if size > max_bytes:
            return OpenImage(content_type, size, None)
        data = cache.sound_bytes(content_hash)
        return OpenImage(content_type, len(data), data)

    image = await images.read_blobs(find)
    if image.data is None:
        try:
            # One part at a time: other readers go on between them.
            async for _ in parts(images, content_hash, image.size, range(image.size), _PART):
                continue
        except (NotFoundError, UnavailableError):
            data, _ = await images.get_image(content_hash, bucket)
            image = image._replace(size=len(data))
    return image


async def parts(
    images: AsyncImageCache, content_hash: str, size: int, wanted: range, part_size: int
) -> AsyncGenerator[bytes, None]:
    """Read an image part by part; see `PartReader`.

    Args:
        images: the cache.
        content_hash: the hash of the image.
        size: its number of bytes.
        wanted: the positions of the bytes to read.
        part_size: the maximum number of bytes in a part.

    Raises:
        NotFoundError: the bytes of the image are missing or damaged.
    """
    reader = PartReader(content_hash, size)
    for start in range(wanted.start, wanted.stop, part_size):
        part = range(start, min(start + part_size, wanted.stop))
        yield await images.read_blobs(partial(reader.read, part))


class PartReader:
    """Reads a blob part by part; if all parts are read in order, it checks the hash of the blob.

    Args:
        content_hash: the hash of the blob.
        size: its number of bytes.
    """

    def __init__(self, content_hash: str, size: int) -> None:
        self._content_hash = content_hash
        self._size = size
        self._hashed = 0
        self._hash = content_hasher()

    def read(self, part: range, cache: ImageCache) -> bytes:
        """Read a part.

        Raises:
            NotFoundError: the blob is missing or too short, or this is its last part, and the hash
                of all parts is not that of the blob.
        """
        data = cache.blobs.get_range(self._content_hash, part.start, part.stop)
        if data is None or len(data) != len(part):
            raise without_bytes(self._content_hash)
        if part.start == self._hashed:
            self._hash.update(data)
            self._hashed = part.stop
            if self._hashed == self._size and self._hash.hexdigest() != self._content_hash:
                raise without_bytes(self._content_hash)
        return data
