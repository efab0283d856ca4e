"""AsyncThumbnails: the coroutine method of a cache for thumbnails."""

import asyncio
from functools import partial
from typing import Any

from imgcache_scrapy.engine.cache import ImageCache
from imgcache_scrapy.engine.threads import CacheThreads
from imgcache_scrapy.engine.thumbnails import Thumbnails


class AsyncThumbnails(CacheThreads):
    """The method of `AsyncImageCache` for thumbnails."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._thumbnails = Thumbnails()
        self._being_made: dict[str, asyncio.Task[bytes]] = {}

    async def thumbnail(self, content_hash: str, bucket: str | None = None) -> bytes:
        """Return the thumbnail of an image, a WebP; see `Thumbnails`.

        Calls for one image at the same time make one thumbnail.

        Raises:
            NotFoundError: as `Thumbnails.find`.
            UnavailableError: as `Thumbnails.make`.
        """

        def find(cache: ImageCache) -> bytes | None:
            return self._thumbnails.find(cache, content_hash, bucket)

        found = await self._limited(lambda: self._run(self._blob_readers, find))
        return await self._make(content_hash) if found is None else found

    async def _make(self, content_hash: str) -> bytes:
        making = self._being_made.get(content_hash)
        if making is None:
            make = partial(self._thumbnails.make, content_hash=content_hash)
            making = asyncio.create_task(self._run(self._thumbnail_threads, make))
            self._being_made[content_hash] = making
            making.add_done_callback(partial(self._end, content_hash))
        # A caller that is cancelled must not end it for the others.
        return await asyncio.shield(making)

    def _end(self, content_hash: str, making: asyncio.Task[bytes]) -> None:
        del self._being_made[content_hash]
        if not making.cancelled():
            # If every caller was cancelled, nothing else reads the error, and asyncio logs that.
            making.exception()

    async def _close(self) -> None:
        await super()._close()
        await asyncio.to_thread(self._thumbnails.close)
