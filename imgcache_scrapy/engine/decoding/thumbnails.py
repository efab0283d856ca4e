"""ThumbnailMaker: makes thumbnails of pictures, in child processes of its own."""

from queue import LifoQueue

from imgcache_scrapy.engine.decoding.decoder import Decoder
from imgcache_scrapy.engine.decoding.limits import MEMORY_LIMIT
from imgcache_scrapy.engine.decoding.messages import (
    THUMBNAILS,
    DecodeError,
    ImageInfo,
    undecodable,
)
from imgcache_scrapy.engine.decoding.signatures import may_be_decoded

MAKERS = 2
"""How many thumbnails are made at the same time."""

# Long, because all others go first. A child that exceeds its processor time ends long before.
_SECONDS = 60.0


class ThumbnailMaker:
    """Child processes that make thumbnails; any number of threads may use them.

    They run with a low priority, and are not those of stores: no store waits for a thumbnail.
    """

    def __init__(self) -> None:
        self._children = [Decoder(_SECONDS, THUMBNAILS) for _ in range(MAKERS)]
        # The last one that was used is used again, so that few children are started.
        self._free: LifoQueue[Decoder] = LifoQueue()
        for child in reversed(self._children):
            self._free.put(child)

    def make(self, picture: bytes) -> ImageInfo:
        """Make a thumbnail.

        Args:
            picture: the whole picture; it may be of any format, broken or hostile.

        Returns:
            The size of the picture and its thumbnail, or the reason why there is none;
            `NOT_DECODED` if the reason may be outside of the picture.
        """
        if not may_be_decoded(picture):
            return undecodable(DecodeError.FORMAT)
        if len(picture) > MEMORY_LIMIT // 2:  # The child would have no memory for the pixels.
            return undecodable(DecodeError.TOO_MUCH_MEMORY)
        child = self._free.get()
        try:
            child.start()
            return child.decode(picture) or undecodable(DecodeError.TOO_LARGE)
        finally:
            self._free.put(child)

    def close(self) -> None:
        """Stop the child processes."""
        for child in self._children:
            child.close()
