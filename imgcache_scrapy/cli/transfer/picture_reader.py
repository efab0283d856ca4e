"""PictureReader: reads the bytes of images from a cache, many at a time."""

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, cast

from imgcache_scrapy.cli.transfer.pictures import Picture
from imgcache_scrapy.cli.transfer.sources import Problem
from imgcache_scrapy.client.client import AsyncImgCacheClient
from imgcache_scrapy.core.errors import NotFoundError
from imgcache_scrapy.core.text import printable

if TYPE_CHECKING:
    from imgcache_scrapy.engine.async_cache import AsyncImageCache
    from imgcache_scrapy.engine.cache import ImageCache

Images = dict[str, bytes]
"""The bytes of images, by content hash."""


class PictureReader:
    """Reads images; one that is damaged or missing is reported and left out.

    Args:
        client: a client of the cache, whose own bucket is "".
        is_embedded: whether the cache is in this process.
        on_problem: called for each image that cannot be read.
    """

    def __init__(
        self,
        client: AsyncImgCacheClient,
        on_problem: Callable[[Problem], None],
        *,
        is_embedded: bool,
    ) -> None:
        self._client = client
        self._is_embedded = is_embedded
        self._on_problem = on_problem

    async def read(self, pictures: Sequence[Picture]) -> Images:
        """Return the bytes of images."""
        images: Images = {}
        if pictures and self._is_embedded:
            transport = cast("AsyncImageCache", self._client.transport)
            # One call for all of them: a call for each takes longer than to read it.
            hashes = [each.content_hash for each in pictures]
            images = await transport.read_blobs(lambda cache: _sound_blobs(cache, hashes))
        others = [each for each in pictures if each.content_hash not in images]
        found = await asyncio.gather(*map(self._one, others))
        others_read = zip(others, found, strict=True)
        return images | {each.content_hash: data for each, data in others_read if data is not None}

    async def _one(self, picture: Picture) -> bytes | None:
        try:
            return await self._client.get_bytes(picture.content_hash)
        except NotFoundError as error:
            self._on_problem(Problem(printable(picture.first["url"]), str(error)))
            return None


def _sound_blobs(cache: "ImageCache", hashes: Sequence[str]) -> Images:
    # Imported here, because the client of a service needs no engine.
    from imgcache_scrapy.engine.blobs.states import examine  # noqa: PLC0415

    found = {}
    for content_hash in hashes:
        state, data = examine(cache.blobs, content_hash)
        if state == "sound" and data is not None:
            found[content_hash] = data
    return found
