"""FrameDecoder: decode every frame of a picture, to find out if the picture is cut."""

from imgcache_scrapy.engine.decoding.decoder import Decoder
from imgcache_scrapy.engine.decoding.limits import MEMORY_LIMIT
from imgcache_scrapy.engine.decoding.messages import EVERY_FRAME, DecodeError

_SECONDS = 10.0


class FrameDecoder:
    """A child process that decodes every frame of a picture, to find out if the picture is cut."""

    def __init__(self) -> None:
        self._decoder = Decoder(_SECONDS, EVERY_FRAME)

    def is_cut(self, data: bytes) -> bool:
        """Return whether a frame of a picture is cut off or broken.

        Args:
            data: the whole picture; it may be of any format, broken or hostile.

        Returns:
            False if every frame was decoded, and if nobody can tell: the picture exceeds the
            limits of the child, or its format is not decoded.
        """
        if len(data) > MEMORY_LIMIT // 2:  # The child would have no memory left for the pixels.
            return False
        info = self._decoder.decode(data)
        return info is not None and info.decode_error is DecodeError.BROKEN

    def close(self) -> None:
        """Stop the child process; a later picture would start a new one."""
        self._decoder.close()
