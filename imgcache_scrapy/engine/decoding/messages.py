"""What the cache's process and the child program say to each other about pictures."""

import struct
from enum import StrEnum
from typing import NamedTuple

READY = b"."
"""What the child writes when it has started."""

REQUEST = struct.Struct("!Q")
"""What precedes a picture on its way to the child: its size in bytes."""

REPLY = struct.Struct("!BIIQ")
"""What comes back: a code, the width, the height, the perceptual hash."""

SMALL_ONLY = "--small-only"
"""The option of a child that decodes only what takes next to no time."""


class DecodeError(StrEnum):
    """Why a picture will never have a size and a perceptual hash; the catalog keeps the value."""

    FORMAT = "format"
    """The bytes are not of a format that is decoded."""
    BROKEN = "broken"
    """They are of such a format, but the decoder says that something in them is wrong."""
    TOO_LARGE = "too_large"
    """More pixels, or more scans of a JPEG, than are decoded."""
    TOO_SLOW = "too_slow"
    """Decoding took more processor time than a picture gets."""
    TOO_MUCH_MEMORY = "too_much_memory"
    """Decoding needed more memory than a picture gets, and the decoder said so."""
    CRASHED = "crashed"
    """The decoder crashed on it."""


class ImageInfo(NamedTuple):
    """What decoding says about a picture: size and hash, or neither.

    Attributes:
        width: pixels, as displayed, that is after the EXIF orientation.
        height: pixels, as displayed.
        perceptual_hash: 64 bits, unsigned.
        decode_error: why there are none; None where there are, and where the picture was not
            decoded yet, which is not its own fault.
    """

    width: int | None
    height: int | None
    perceptual_hash: int | None
    decode_error: DecodeError | None = None


NOT_DECODED = ImageInfo(None, None, None)
"""Of a picture that was not decoded yet."""

_DECODED, _COSTLY = 0, 255
_ERRORS = dict(enumerate(DecodeError, start=1))
_CODES = {error: code for code, error in _ERRORS.items()}


def undecodable(error: DecodeError) -> ImageInfo:
    """Return what is known of a picture that cannot be decoded."""
    return ImageInfo(None, None, None, error)


def reply_of(info: ImageInfo | None) -> bytes:
    """Encode a reply; None says that the picture costs more than this child may spend."""
    if info is None:
        return REPLY.pack(_COSTLY, 0, 0, 0)
    if info.decode_error is not None:
        return REPLY.pack(_CODES[info.decode_error], 0, 0, 0)
    return REPLY.pack(_DECODED, *info[:3])


def info_of_reply(reply: bytes) -> ImageInfo | None:
    """Decode a reply, the inverse of `reply_of`.

    Raises:
        struct.error: the reply is not complete.
    """
    code, *found = REPLY.unpack(reply)
    if code == _COSTLY:
        return None
    return ImageInfo(*found) if code == _DECODED else undecodable(_ERRORS[code])
