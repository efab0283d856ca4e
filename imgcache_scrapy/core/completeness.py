"""Check whether a picture file is complete, without decoding it."""

import re
from collections.abc import Callable, Iterator
from functools import partial
from itertools import zip_longest
from typing import Literal

from imgcache_scrapy.core.formats import decode_markup, match_svg_root, skip_misc

# Not a segment: FF 00 (escaped data byte), FF FF (fill), 01 (TEM), D0-D7 (RSTn), D8 (SOI).
_JPEG_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd8\xff]")
_MAX_PAGES = 10_000
# Tags of StripOffsets and StripByteCounts, and of TileOffsets and TileByteCounts; then the sizes
# in bytes of the types SHORT, LONG and LONG8.
_TIFF_PART_TAGS = ((273, 279), (324, 325))
_TIFF_TYPE_SIZES = {3: 2, 4: 4, 16: 8}


def is_complete(data: bytes, content_type: str) -> bool:
    """Return whether a picture contains everything up to the end that its format defines.

    Args:
        data: the whole picture.
        content_type: the result of `sniff` for this picture.

    Returns:
        False if something is missing or broken; True for a format that has no check here.
    """
    check = _CHECKS.get(content_type)
    try:
        return check is None or check(data)
    except LookupError:
        return False


def _number(data: bytes, offset: int, size: int, order: Literal["little", "big"] = "big") -> int:
    """Read an unsigned integer; raise IndexError if the data end before it."""
    field = data[offset : offset + size]
    if len(field) < size:
        raise IndexError(offset)
    return int.from_bytes(field, order)


def _is_complete_jpeg(data: bytes) -> bool:
    """Find EOI after segments, which state their length, and scans (ITU-T T.81 B.1.1)."""
    offset = 2
    while marker := _JPEG_MARKER.search(data, offset):
        offset = marker.end()
        if marker[0] == b"\xff\xd9":
            return True
        offset += int.from_bytes(data[offset : offset + 2], "big")
    return False


def _is_complete_png(data: bytes) -> bool:
    """Find IEND after chunks of length, type, data and CRC (W3C PNG 5.3)."""
    offset = 8
    while data[offset + 4 : offset + 8] != b"IEND":
        offset += 12 + _number(data, offset, 4)
    return offset + 12 <= len(data)


def _is_complete_gif(data: bytes) -> bool:
    """Find the trailer after extensions and images (GIF89a, appendix B)."""
    offset = 13 + _gif_palette(data[10])
    while (block := data[offset]) in b"!,":
        # Sub-blocks follow a label (extension), or position, palette and code size (image).
        offset += 2 if block == ord("!") else 11 + _gif_palette(data[offset + 9])
        while size := data[offset]:
            offset += size + 1
        offset += 1
    return block == ord(";")


def _gif_palette(flags: int) -> int:
    """Compute the bytes of a colour table from the flags before it (GIF89a 18 and 20)."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _is_complete_webp(data: bytes) -> bool:
    """Compare with the size in the RIFF header (RFC 9649 2.4)."""
    return 8 + _number(data, 4, 4, "little") <= len(data)


def _is_complete_heif(data: bytes) -> bool:
    """Find the boxes for metadata and pixels of AVIF or HEIC (ISO 23008-12 10.2)."""
    return _boxes(data) >= {b"meta", b"mdat"}


def _is_complete_jxl(data: bytes) -> bool:
    """Find a codestream box (ISO 18181-2); accept a bare codestream, whose end is hard to find."""
    return data.startswith(b"\xff\x0a") or not _boxes(data).isdisjoint({b"jxlc", b"jxlp"})


def _boxes(data: bytes) -> set[bytes]:
    """Return the types of top-level boxes (ISO 14496-12 4.2); IndexError if a header is cut."""
    types, offset = set(), 0
    while offset != len(data):
        size = _number(data, offset, 4) or len(data) - offset
        if size == 1:
            size = _number(data, offset + 8, 8)
        types.add(data[offset + 4 : offset + 8])
        offset += max(size, 8)
    return types


def _is_complete_bmp(data: bytes) -> bool:
    """Compare with the size in the BITMAPFILEHEADER, or with the rows if it has no valid size."""
    size, pixels = _number(data, 2, 4, "little"), _number(data, 10, 4, "little")
    return (size if size > pixels else pixels + _bmp_rows(data)) <= len(data)


def _bmp_rows(data: bytes) -> int:
    """Compute the bytes of the uncompressed rows, padded to 4 bytes each (BITMAPINFOHEADER)."""
    side = 2 if data.startswith(b"\x0c", 14) else 4  # only the OS/2 header has 12 bytes
    width = _number(data, 18, side, "little")
    height = _number(data, 18 + side, side, "little")
    depth = _number(data, 20 + 2 * side, 2, "little")
    # A negative height means that the rows are stored from top to bottom.
    return (width * depth + 31) // 32 * 4 * min(height, (1 << 8 * side) - height)


def _is_complete_ico(data: bytes) -> bool:
    """Check that all pictures of the directory are there (Microsoft ICONDIR, ICONDIRENTRY)."""
    entries = range(6, 6 + 16 * _number(data, 4, 2, "little"), 16)
    files = (
        [_number(data, offset + field, 4, "little") for field in (8, 12)] for offset in entries
    )
    return all(sum(size_and_start) <= len(data) for size_and_start in files)


def _is_complete_svg(data: bytes) -> bool:
    """Find the end of the root element, with only Misc after it (XML 1.0, 2.1 and 2.8)."""
    text = decode_markup(data)
    if not (root := match_svg_root(text)):
        return False
    closing = text.rfind(f"</{root[1]}", root.end())
    end = text.find(">", max(closing, root.end()))
    is_closed = closing >= 0 or text[end - 1] == "/"
    return end >= 0 and is_closed and skip_misc(text, end + 1) == len(text)


def _is_complete_tiff(data: bytes) -> bool:
    """Check that the strips and tiles of all pages are there (TIFF 6.0, 3 and 15)."""
    return max(_Tiff(data).part_ends()) <= len(data)


class _Tiff:
    """Reads the tables of a TIFF (TIFF 6.0, 2), or of a BigTIFF with its wider integers."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._int = partial(int.from_bytes, byteorder="little" if data[:1] == b"I" else "big")
        self._offset_size, self._count_size, self._entry_size = (
            (8, 8, 20) if b"+" in data[2:4] else (4, 2, 12)
        )
        # Valid tables do not overlap, so all together are no larger than the file. This limit stops
        # the loop if tables overlap or refer to each other in a circle.
        self._unread = len(data)

    def part_ends(self) -> Iterator[int]:
        """Yield the end of the last strip or tile of each page; LookupError if broken."""
        offset = self._int(self._take(self._offset_size, self._offset_size))
        for _ in range(_MAX_PAGES):
            size = self._int(self._take(offset, self._count_size)) * self._entry_size
            entries = self._entries(self._take(offset + self._count_size, size))
            for tags in _TIFF_PART_TAGS:
                parts = (self._values(entries[tag]) for tag in tags if tag in entries)
                yield max(map(sum, zip_longest(*parts, fillvalue=0)), default=0)
            offset = self._int(self._take(offset + self._count_size + size, self._offset_size))
            if not offset:
                return
        raise LookupError(_MAX_PAGES)

    def _entries(self, table: bytes) -> dict[int, bytes]:
        starts = range(0, len(table), self._entry_size)
        return {
            self._int(table[offset : offset + 2]): table[offset + 2 : offset + self._entry_size]
            for offset in starts
        }

    def _values(self, entry: bytes) -> list[int]:
        """Read the numbers of an entry; if they do not fit, the entry holds their offset."""
        width = _TIFF_TYPE_SIZES[self._int(entry[:2])]
        size = self._int(entry[2 : -self._offset_size]) * width
        value = entry[-self._offset_size :]
        if size > self._offset_size:
            value = self._take(self._int(value), size)
        return [self._int(value[offset : offset + width]) for offset in range(0, size, width)]

    def _take(self, offset: int, size: int) -> bytes:
        self._unread -= size
        table = self._data[offset : offset + size]
        if self._unread < 0 or len(table) < size:
            raise IndexError(offset)
        return table


_CHECKS: dict[str, Callable[[bytes], bool]] = {
    "image/jpeg": _is_complete_jpeg,
    "image/png": _is_complete_png,
    "image/gif": _is_complete_gif,
    "image/webp": _is_complete_webp,
    "image/avif": _is_complete_heif,
    "image/heic": _is_complete_heif,
    "image/jxl": _is_complete_jxl,
    "image/bmp": _is_complete_bmp,
    "image/x-icon": _is_complete_ico,
    "image/svg+xml": _is_complete_svg,
    "image/tiff": _is_complete_tiff,
}
