"""Decode images that were not decoded when they were stored: one at a time, oldest first.

A picture that takes long to decode, or whose decoder died, is stored without its size and its hash,
so that no store waits for it. Each image is tried three times at most: a picture that stops the
decoder, or the whole process, must not do so for ever. An attempt is counted before it is made.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager

from imgcache_scrapy.core.entry import Entry
from imgcache_scrapy.core.errors import NotFoundError
from imgcache_scrapy.engine.cache import ImageCache
from imgcache_scrapy.engine.catalog.database import database_call
from imgcache_scrapy.engine.decoding.messages import NOT_DECODED, DecodeError, undecodable
from imgcache_scrapy.engine.description import image_of

logger = logging.getLogger(__name__)

MAX_ATTEMPTS = 3
"""An image that was tried this often is not tried again."""


@database_call
def decode_next(cache: ImageCache) -> str | None:
    """Decode the oldest image that is not decoded yet.

    Returns:
        The hash of the image that was tried; None if every image is decoded or cannot be.

    Raises:
        UnavailableError: the catalog or the storage fails.
    """
    content_hash = cache.catalog.next_not_decoded()
    if content_hash is None:
        return None
    cache.catalog.check_writable()
    # Before the attempt is counted: an outage of the storage says nothing about the picture.
    try:
        data, _ = cache.get_image(content_hash)
    except NotFoundError:  # It is marked as damaged, or deleted.
        return content_hash
    with cache.catalog.exclusive([content_hash]) as transaction:
        attempt = transaction.begin_decoding(content_hash)
    if attempt is None:
        return content_hash
    info = cache.decoders.decode_slow(data) if attempt <= MAX_ATTEMPTS else NOT_DECODED
    if info == NOT_DECODED and attempt >= MAX_ATTEMPTS:
        info = undecodable(DecodeError.TIMEOUT)
    if info != NOT_DECODED:
        with cache.catalog.exclusive([content_hash]) as transaction:
            transaction.end_decoding(image_of(content_hash, data, info))
    return content_hash


class LateDecoding:
    """Decodes images while nothing is being stored; use it within one event loop.

    Args:
        decode_next: calls the function of this name in a thread.
    """

    def __init__(self, decode_next: Callable[[], Awaitable[str | None]]) -> None:
        self._decode_next = decode_next
        self._is_due = True
        self._running_stores = 0
        self._is_closed = False
        self._task: asyncio.Task[None] | None = None

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Start no decoding while the block runs; go on after it if an image may wait."""
        self._running_stores += 1
        try:
            yield
        finally:
            self._running_stores -= 1
            self.go_on()

    def note(self, stores: Iterable[Entry | Exception | None]) -> None:
        """Look for images again if one of these stores has left its image without a size."""
        stored = (entry for entry in stores if not isinstance(entry, Exception | None))
        self._is_due |= any(entry["width"] is None for entry in stored)

    def go_on(self) -> None:
        """Decode the images that wait, if nothing is being stored."""
        is_running = self._task is not None and not self._task.done()
        if not is_running and self._may_run:
            self._task = asyncio.create_task(self._run())

    async def aclose(self) -> None:
        """Start no further image, and wait for the one that is being decoded."""
        self._is_closed = True
        if self._task is not None:
            await self._task

    @property
    def _may_run(self) -> bool:
        return self._is_due and not self._running_stores and not self._is_closed

    async def _run(self) -> None:
        try:
            while self._may_run:
                # Before the call: an image that is stored meanwhile must not be forgotten.
                self._is_due = False
                if await self._decode_next() is not None:
                    self._is_due = True
        except Exception as error:
            # The next store tries again. It also tells the user if the cache does not work.
            logger.debug("Images that are not decoded yet must wait: %s", error)
            self._is_due = True
