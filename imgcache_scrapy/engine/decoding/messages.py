"""The messages between the process of the cache and a child process that decodes pictures."""

import struct
from enum import StrEnum
from typing import IO, NamedTuple

READY = b"."
"""The child writes this when it has started."""

REQUEST = struct.Struct("!If")
"""The header of a request: the number of pictures, and the seconds that failures may take together.
The pictures follow. Each one has a reply; when the seconds are over, it is `NOT_DECODED`."""

SIZE = struct.Struct("!Q")
"""The header of a picture: its size in bytes."""

REPLY = struct.Struct("!BIIQHf")
"""The header of a reply: a code, the width, the height, the perceptual hash, the number of bytes of
the thumbnail, which follows, and the seconds that decoding took."""

QUICK_ONLY = "--quick-only"
"""The command-line option of a child that decodes only pictures that take little time."""

EVERY_FRAME = "--every-frame"
"""The command-line option of a child that decodes every frame, to find out if one is cut off."""

THUMBNAILS = "--thumbnails"
"""The command-line option of a child that makes thumbnails."""


class DecodeError(StrEnum):
    """Why a picture has no size and no perceptual hash; the catalog stores the value."""

    FORMAT = "format"
    """The bytes are not in one of the decoded formats."""
    BROKEN = "broken"
    """The bytes are in such a format, but the decoder found an error in them."""
    TOO_LARGE = "too_large"
    """The picture has too many pixels, or too many scans of a JPEG."""
    TOO_SLOW = "too_slow"
    """Decoding took more processor time than the limit."""
    TOO_MUCH_MEMORY = "too_much_memory"
    """Decoding needed more memory than the limit, and the decoder reported it."""
    CRASHED = "crashed"
    """The decoder crashed on the picture."""
    TIMEOUT = "timeout"
    """The decoder did not answer, each time it was tried: see `late_decoding`."""


class ImageInfo(NamedTuple):
    """The result of decoding a picture: its size and its perceptual hash, or an error.

    Attributes:
        width: in pixels, as displayed: after applying the EXIF orientation.
        height: in pixels, as displayed.
        perceptual_hash: 64 bits, unsigned; None if there is no right one, see `phash`.
        decode_error: why there are no size and hash; None if there is a size, and if the picture
            was not decoded for a reason outside of the picture.
        thumbnail: a small WebP of the picture; empty if the child makes none.
    """

    width: int | None
    height: int | None
    perceptual_hash: int | None
    decode_error: DecodeError | None = None
    thumbnail: bytes = b""


NOT_DECODED = ImageInfo(None, None, None)
"""The information about a picture that is not decoded yet."""

# Codes of replies. The other codes are those of the errors.
_DECODED, _NOT_DECODED, _WITHOUT_HASH, _OVER_LIMITS = 0, 253, 254, 255
_ERROR_OF_CODE = dict(enumerate(DecodeError, start=1))
_CODE_OF_ERROR = {error: code for code, error in _ERROR_OF_CODE.items()}


def undecodable(error: DecodeError) -> ImageInfo:
    """Return the information about a picture that cannot be decoded."""
    return ImageInfo(None, None, None, error)


def reply_of(info: ImageInfo | None, seconds: float) -> bytes:
    """Encode a reply.

    Args:
        info: the result; None if the picture exceeds the limits of this child.
        seconds: how long it took.
    """
    if info is None:
        return REPLY.pack(_OVER_LIMITS, 0, 0, 0, 0, seconds)
    if info.decode_error is not None:
        return REPLY.pack(_CODE_OF_ERROR[info.decode_error], 0, 0, 0, 0, seconds)
    if info.width is None:
        return REPLY.pack(_NOT_DECODED, 0, 0, 0, 0, seconds)
    code = _WITHOUT_HASH if info.perceptual_hash is None else _DECODED
    size = (info.width, info.height, info.perceptual_hash or 0, len(info.thumbnail))
    return REPLY.pack(code, *size, seconds) + info.thumbnail


def read_reply(replies: IO[bytes]) -> tuple[ImageInfo | None, float]:
    """Read a reply and decode it: the inverse of `reply_of`.

    Returns:
        The result and the seconds.

    Raises:
        struct.error: the reply is not complete.
    """
    code, width, height, perceptual_hash, size, seconds = REPLY.unpack(replies.read(REPLY.size))
    if code == _OVER_LIMITS:
        return None, seconds
    if code == _NOT_DECODED:
        return NOT_DECODED, seconds
    if code not in {_DECODED, _WITHOUT_HASH}:
        return undecodable(_ERROR_OF_CODE[code]), seconds
    thumbnail = replies.read(size) if size else b""
    if len(thumbnail) != size:
        raise struct.error("the thumbnail is not complete")
    hashed = perceptual_hash if code == _DECODED else None
    return ImageInfo(width, height, hashed, thumbnail=thumbnail), seconds
