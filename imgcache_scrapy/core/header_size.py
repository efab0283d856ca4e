"""Read the size of a picture from its first bytes, without decoding it."""

import re

_PNG = b"\x89PNG\r\n\x1a\n"
# The size is in the first frame header of a JPEG. Metadata may come before it.
_MAX_JPEG_SEGMENTS = 200
_SEGMENT_WITH_SIZE = re.compile(rb"\xff[\xc0-\xc3\xc5-\xc7\xc9-\xcb\xcd-\xcf]")


def header_size(data: bytes) -> tuple[int, int] | None:
    """Return the width and the height that a picture's header names, in pixels.

    Args:
        data: the bytes of a PNG, GIF, JPEG, WebP or BMP.

    Returns:
        The size before the picture is turned as its metadata say; None if it is not known.
    """
    if data.startswith(_PNG):
        size = _number(data, 16, 4, "big"), _number(data, 20, 4, "big")
    elif data.startswith((b"GIF87a", b"GIF89a")):
        size = _number(data, 6, 2), _number(data, 8, 2)
    elif data.startswith(b"BM") and _number(data, 14, 4) >= 40:  # noqa: PLR2004 - older ones differ
        size = _number(data, 18, 4), abs(_number(data, 22, 4, signed=True))
    elif data.startswith(b"\xff\xd8"):
        size = _jpeg_size(data)
    elif data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        size = _webp_size(data)
    else:
        return None
    return size if all(size) else None


def _jpeg_size(data: bytes) -> tuple[int, int]:
    position = 2
    for _ in range(_MAX_JPEG_SEGMENTS):
        if _SEGMENT_WITH_SIZE.match(data, position):
            return _number(data, position + 7, 2, "big"), _number(data, position + 5, 2, "big")
        if data[position : position + 1] != b"\xff":
            break
        position += 2 + _number(data, position + 2, 2, "big")
    return 0, 0


def _webp_size(data: bytes) -> tuple[int, int]:
    kind = data[12:16]
    if kind == b"VP8X":
        return _number(data, 24, 3) + 1, _number(data, 27, 3) + 1
    if kind == b"VP8L":
        bits = _number(data, 21, 4)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8 ":
        return _number(data, 26, 2) & 0x3FFF, _number(data, 28, 2) & 0x3FFF
    return 0, 0


def _number(data: bytes, start: int, size: int, order: str = "little", **sign: bool) -> int:
    return int.from_bytes(data[start : start + size], order, **sign)  # type: ignore[arg-type]
