"""Check quickly whether a picture file is visibly whole, without decoding it.

The checks are strict: they accept only what follows a format's specification to its end. What they
do not accept is in doubt, not cut: a decoder must decide. Their work and memory are bounded: above
the limits below, a picture is in doubt, too.
"""

import math
import re
import struct
from collections.abc import Callable, Iterator

from imgcache_scrapy.core.tiff import is_whole_tiff

MAX_STEPS = 10_000
"""Maximum number of segments, chunks, boxes or directory entries that are read."""

MAX_GIF_BLOCKS = 130_000
"""Maximum number of blocks of a GIF that are read; each has 255 bytes or less."""

# Not a segment: 00 (escaped data byte; in JPEG-LS 00-7F), D0-D7 (RSTn), D8 (SOI), FF (fill).
_JPEG_MARKER = re.compile(rb"\xff[\x80-\xcf\xd9-\xfe]")
# A search holds the interpreter lock until it ends, so a large file is searched in pieces.
_PIECE = 1 << 16
_JPEG_SOI, _JPEG_EOI, _JPEG_APP2 = b"\xff\xd8", 0xD9, 0xE2
# The tag NumberOfImages with its one value of 4 bytes, in both byte orders.
_MPF_NUMBER = re.compile(
    rb"\x01\xb0\x04\0\x01\0\0\0(.{4})|\xb0\x01\0\x04\0\0\0\x01(.{4})", re.DOTALL
)

_JP2_CODESTREAM, _JP2_SOT, _JP2_EOC = b"\xff\x4f", b"\xff\x90", b"\xff\xd9"

_MAX_BRANDS_END = 1024
_PNG_START = b"\x89PNG"
_BMP_HEADER, _DIB_HEADER, _OS2_HEADER = 14, 40, 12
# The compressions BI_RGB, BI_BITFIELDS and BI_ALPHABITFIELDS: the size of the rows is known.
_DIB_UNCOMPRESSED = {0, 3, 6}


class _DoubtError(Exception):
    """The structure of the file is not as the specification says."""


def is_in_doubt(data: bytes, content_type: str) -> bool:
    """Return whether only a decoder can tell if a picture is whole.

    Args:
        data: the whole picture.
        content_type: the result of `sniff` for this picture.

    Returns:
        False if everything is there up to the end that the format defines, and for a format
        that has no check here.
    """
    is_whole = _CHECKS.get(content_type)
    try:
        return is_whole is not None and not is_whole(data)
    except (LookupError, OverflowError, struct.error, _DoubtError):
        return True


def _is_whole_jpeg(data: bytes) -> bool:
    """Find EOI after segments, which state their length, and scans (ITU-T T.81 B.1.1).

    Other pictures may follow behind EOI, and a segment then lists all of them (CIPA DC-007).
    """
    offset, pictures, listed, header = 2, 0, b"", 0
    for _ in range(MAX_STEPS):
        offset = _after_marker(data, offset)
        marker, size = data[offset - 1], int.from_bytes(data[offset : offset + 2], "big")
        if marker == _JPEG_EOI:
            pictures += 1
            if pictures >= _number_of_pictures(listed):
                return True
            following = data.find(_JPEG_SOI, offset, offset + _PIECE)
            if following < 0:
                return pictures == 1 and not _states_end(listed, offset, offset - header)
            offset = following + len(_JPEG_SOI)
            continue
        if marker == _JPEG_APP2 and data.startswith(b"MPF\0", offset + 2) and not pictures:
            listed, header = data[offset : offset + size], offset + 6
        offset += size
    return False


def _number_of_pictures(listed: bytes) -> float:
    if not listed:
        return 1
    number = _MPF_NUMBER.search(listed)
    if number is None:
        return math.inf
    return int.from_bytes(number[1] or number[2], "little" if number[1] else "big")


def _states_end(listed: bytes, *ends: int) -> bool:
    """Return whether a list states the size of the first picture, or that the next follows it.

    If it does not, a program has rewritten this picture and removed the others, but not the list.
    """
    return any(end.to_bytes(4, order) in listed for end in ends for order in ("little", "big"))


def _after_marker(data: bytes, offset: int) -> int:
    if marker := _search(_JPEG_MARKER, data, offset):
        return marker.end()
    raise _DoubtError


def _search(marker: re.Pattern[bytes], data: bytes, offset: int) -> re.Match[bytes] | None:
    """Find the next marker of two bytes."""
    for start in range(offset, len(data), _PIECE):
        # One byte more than a piece: a marker may begin at its end.
        if found := marker.search(data, start, start + _PIECE + 1):
            return found
    return None


def _is_whole_png(data: bytes, start: int = 0) -> bool:
    """Find IEND after chunks of length, type, data and CRC (W3C PNG 5.3)."""
    offset = start + 8
    for _ in range(MAX_STEPS):
        size, kind = struct.unpack_from(">I4s", data, offset)
        offset += 12 + size
        if kind == b"IEND":
            return bool(offset <= len(data))
    return False


def _is_whole_gif(data: bytes) -> bool:
    """Find the trailer after extensions and images (GIF89a, appendix B)."""
    offset, blocks = 13 + _gif_palette(data[10]), 0
    while blocks < MAX_GIF_BLOCKS and (introducer := data[offset]) in b"!,":
        # Sub-blocks follow a label (extension), or position, palette and code size (image).
        offset += 2 if introducer == ord("!") else 11 + _gif_palette(data[offset + 9])
        blocks += 1
        while blocks < MAX_GIF_BLOCKS and (size := data[offset]):
            offset += size + 1
            blocks += 1
        offset += 1
    return blocks < MAX_GIF_BLOCKS and introducer == ord(";")


def _gif_palette(flags: int) -> int:
    """Compute the bytes of a colour table from the flags before it (GIF89a 18 and 20)."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _is_whole_webp(data: bytes) -> bool:
    """Check that the chunks fill the size in the RIFF header (RFC 9649 2.3 and 2.4)."""
    end, offset = 8 + struct.unpack_from("<I", data, 4)[0], 12
    for _ in range(MAX_STEPS):
        if offset >= end:
            break
        size = struct.unpack_from("<I", data, offset + 4)[0]
        offset += 8 + size + size % 2
    return bool(offset == end <= len(data))


def _is_whole_avif(data: bytes) -> bool:
    """Check that the data of all items are there; a sequence is in doubt (ISO 23008-12)."""
    brands, brands_end = _box(data, b"ftyp", 0, len(data))
    if brands_end > _MAX_BRANDS_END or data.find(b"avis", brands, brands_end) >= 0:
        return False
    meta, meta_end = _box(data, b"meta", brands_end, len(data))
    items, _ = _box(data, b"iloc", meta + 4, meta_end)
    ends = list(_item_ends(data, items))
    return bool(ends) and max(ends) <= len(data)


def _box(data: bytes, wanted: bytes, offset: int, end: int) -> tuple[int, int]:
    """Find a box, and return the start and the end of its content (ISO 14496-12 4.2)."""
    for _ in range(MAX_STEPS):
        size, kind = struct.unpack_from(">I4s", data, offset)
        start = offset + 8
        if size == 1:
            (size,) = struct.unpack_from(">Q", data, start)
            start += 8
        offset += size or end - offset
        if not start <= offset <= end:
            break
        if kind == wanted:
            return start, offset
    raise _DoubtError


def _item_ends(data: bytes, offset: int) -> Iterator[int]:
    """Yield the end of each extent in the file (ISO 14496-12 8.11.3, the box `iloc`)."""
    version, sizes = data[offset], int.from_bytes(data[offset + 4 : offset + 6], "big")
    number = _Numbers(data, offset + 6)
    wide = 2 if version < 2 else 4  # noqa: PLR2004
    for _ in range(number.next(wide)):
        number.next(wide)  # item_ID
        method = number.next(2) & 15 if version else 0
        reference, base = number.next(2), number.next(sizes >> 4 & 15)
        for _ in range(number.next(2)):
            number.next(sizes & 15 if version else 0)  # extent_index
            start, size = number.next(sizes >> 12), number.next(sizes >> 8 & 15)
            if reference or method > 1 or not size:
                raise _DoubtError
            # With method 1, the data are inside of the box `meta`, which is there.
            yield 0 if method else base + start + size


class _Numbers:
    """Reads unsigned big-endian integers of any size, at most `MAX_STEPS`."""

    def __init__(self, data: bytes, offset: int) -> None:
        self._data, self._offset, self._left = data, offset, MAX_STEPS

    def next(self, size: int) -> int:
        self._left -= 1
        self._offset += size
        if self._left < 0 or self._offset > len(self._data):
            raise _DoubtError
        return int.from_bytes(self._data[self._offset - size : self._offset], "big")


def _is_whole_bmp(data: bytes) -> bool:
    """Check that the palette and the rows are there (Microsoft BITMAPFILEHEADER)."""
    (pixels,) = struct.unpack_from("<I", data, 10)
    palette_end, rows, _ = _dib_sizes(data, _BMP_HEADER)
    # Where both start at the same place, decoders look for the rows behind the palette.
    return bool(pixels > _BMP_HEADER) and max(palette_end, pixels) + rows <= len(data)


def _dib_sizes(data: bytes, start: int) -> tuple[int, int, int]:
    """Return the end of the palette, and the bytes of the rows and of a mask of 1 bit a pixel."""
    (header,) = struct.unpack_from("<I", data, start)
    compression = colors = 0
    if header == _OS2_HEADER:
        width, height, _, depth = struct.unpack_from("<4H", data, start + 4)
    else:
        width, height, _, depth, compression = struct.unpack_from("<iiHHI", data, start + 4)
        (colors,) = struct.unpack_from("<I", data, start + 32)
    if (header != _OS2_HEADER and header < _DIB_HEADER) or compression not in _DIB_UNCOMPRESSED:
        raise _DoubtError
    if depth <= 8:  # noqa: PLR2004
        colors = colors or 1 << depth
    palette_end = start + header + (3 if header == _OS2_HEADER else 4) * colors
    # A negative height means that the rows are stored from top to bottom.
    return palette_end, _dib_rows(width, depth) * abs(height), _dib_rows(width, 1) * abs(height)


def _dib_rows(width: int, depth: int) -> int:
    """Compute the bytes of a row, which is padded to 4 bytes."""
    return (width * depth + 31) // 32 * 4


def _is_whole_ico(data: bytes) -> bool:
    """Check all pictures of the directory of an icon or a cursor (Microsoft ICONDIR)."""
    count = int.from_bytes(data[4:6], "little")
    if not 0 < count <= MAX_STEPS:
        return False
    entries = struct.iter_unpack("<8xII", memoryview(data)[6 : 6 + 16 * count])
    return len(data) > 6 + 16 * count and all(
        _is_whole_icon(data, size, start) for size, start in entries
    )


def _is_whole_icon(data: bytes, size: int, start: int) -> bool:
    if not start or start + size > len(data):
        return False
    if data.startswith(_PNG_START, start):
        return _is_whole_png(data, start)
    # The height is that of the rows and of the mask, together.
    palette_end, rows, mask = _dib_sizes(data, start)
    return palette_end + rows // 2 + mask // 2 <= start + size


def _is_whole_jp2(data: bytes) -> bool:
    """Find EOC after the main header and the tile-parts, which state their length (T.800 A.3)."""
    is_bare = data.startswith(_JP2_CODESTREAM)
    start = 0 if is_bare else _box(data, b"jp2c", 0, len(data))[0]
    offset = start + 2
    for _ in range(MAX_STEPS):
        marker = data[offset : offset + 2]
        if marker == _JP2_EOC:
            return True
        if marker == _JP2_SOT:
            length = int.from_bytes(data[offset + 6 : offset + 10], "big")
            if not length:  # It lasts until EOC, which its data cannot contain.
                return _search(re.compile(_JP2_EOC), data, offset + 12) is not None
            offset += length
        else:
            offset += 2 + int.from_bytes(data[offset + 2 : offset + 4], "big")
    return False


_CHECKS: dict[str, Callable[[bytes], bool]] = {
    "image/jpeg": _is_whole_jpeg,
    "image/png": _is_whole_png,
    "image/gif": _is_whole_gif,
    "image/webp": _is_whole_webp,
    "image/avif": _is_whole_avif,
    "image/bmp": _is_whole_bmp,
    "image/x-icon": _is_whole_ico,
    "image/tiff": is_whole_tiff,
    "image/jp2": _is_whole_jp2,
}
"""The formats that the decoder knows. No other format has a check: nobody could end a doubt."""
