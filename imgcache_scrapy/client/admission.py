"""Admission: decides in the background whether a body is a whole image that the cache may keep."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from imgcache_scrapy.core.admission import Reason, is_in_doubt, refusal
from imgcache_scrapy.core.forks import no_fork
from imgcache_scrapy.core.limits import MAX_IMAGE_BYTES

if TYPE_CHECKING:
    from imgcache_scrapy.engine.decoding.frames import FrameDecoder

# The structure of larger bodies is read in a thread, that of smaller ones in a few milliseconds.
_MAX_BYTES_IN_LOOP = 256 * 2**10


class Admission:
    """Decides which bodies may be kept; use it within one event loop, and close it.

    An image whose structure leaves a doubt is decoded by a child process, which is started when
    there is a doubt for the first time. This process does not import the decoder's libraries.

    Args:
        max_bytes: the size of the largest image that may be kept.

    Attributes:
        max_bytes: the size of the largest image that may be kept.
    """

    def __init__(self, max_bytes: int = MAX_IMAGE_BYTES) -> None:
        self.max_bytes = max_bytes
        self._readers = ThreadPoolExecutor(1, "imgcache-admit")
        # One thread, so that there is one child process, which has one image in memory.
        self._decoders = ThreadPoolExecutor(1, "imgcache-admit-decode")
        self._decoder: FrameDecoder | None = None

    async def refusal(self, body: bytes) -> Reason | None:
        """Decide whether a body must not be kept as an image.

        Args:
            body: the decoded content of a response.

        Returns:
            The first reason that applies. None if the body is a whole image, or an image that the
            decoder does not know, or that exceeds the decoder's limits.
        """
        reason = refusal(body, max_bytes=self.max_bytes)
        if reason is not None or not await self._is_in_doubt(body):
            return reason
        loop = asyncio.get_running_loop()
        is_cut = await loop.run_in_executor(self._decoders, self._is_cut, body)
        return "truncated" if is_cut else None

    async def aclose(self) -> None:
        """Stop the threads and the child process, after the image that is decoded now."""
        await asyncio.to_thread(self._close)

    async def _is_in_doubt(self, body: bytes) -> bool:
        if len(body) <= _MAX_BYTES_IN_LOOP:
            return is_in_doubt(body)
        return await asyncio.get_running_loop().run_in_executor(self._readers, is_in_doubt, body)

    def _is_cut(self, body: bytes) -> bool:
        # Imported here, because most crawls have no image in doubt.
        with no_fork:
            from imgcache_scrapy.engine.decoding.frames import FrameDecoder  # noqa: PLC0415

        if self._decoder is None:
            self._decoder = FrameDecoder()
        return self._decoder.is_cut(body)

    def _close(self) -> None:
        for threads in (self._readers, self._decoders):
            threads.shutdown(cancel_futures=True)
        if self._decoder is not None:
            self._decoder.close()
