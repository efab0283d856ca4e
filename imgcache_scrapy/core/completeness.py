"""Whether a picture is whole: where each format ends, found without decoding."""

import re
from collections.abc import Callable, Iterator
from functools import partial
from itertools import zip_longest
from typing import Literal

from imgcache_scrapy.core.formats import after_misc, decoded, svg_root

# FF 00 is a stuffed data byte, FF FF is fill; 01 (TEM), D0-D7 (RSTn) and D8 (SOI) bear no segment.
_JPEG_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd8\xff]")
_PAGE_LIMIT = 10_000
# StripOffsets and StripByteCounts, TileOffsets and TileByteCounts; widths of SHORT, LONG, LONG8.
_TIFF_PARTS = ((273, 279), (324, 325))
_TIFF_WIDTHS = {3: 2, 4: 4, 16: 8}


def is_complete(data: bytes, content_type: str) -> bool:
    """Tell whether a picture reaches the end that its format foresees, without decoding it.

    Args:
        data: the whole picture.
        content_type: what `sniff` said of it.

    Returns:
        False when something is missing or broken; True for a format without a rule here.
    """
    ends = _ENDS.get(content_type)
    try:
        return ends is None or ends(data)
    except LookupError:
        return False


def _number(data: bytes, at: int, size: int, order: Literal["little", "big"] = "big") -> int:
    """Read an unsigned integer; IndexError when the data end before it does."""
    field = data[at : at + size]
    if len(field) < size:
        raise IndexError(at)
    return int.from_bytes(field, order)


def _jpeg_ends(data: bytes) -> bool:
    """Find EOI behind segments that tell their length and scans that do not (ITU-T T.81 B.1.1)."""
    at = 2
    while marker := _JPEG_MARKER.search(data, at):
        at = marker.end()
        if marker[0] == b"\xff\xd9":
            return True
        at += int.from_bytes(data[at : at + 2], "big")
    return False


def _png_ends(data: bytes) -> bool:
    """Find IEND behind chunks of length, type, data and CRC (W3C PNG 5.3)."""
    at = 8
    while data[at + 4 : at + 8] != b"IEND":
        at += 12 + _number(data, at, 4)
    return at + 12 <= len(data)


def _gif_ends(data: bytes) -> bool:
    """Find the trailer behind extensions and images (GIF89a, appendix B)."""
    at = 13 + _gif_palette(data[10])
    while (block := data[at]) in b"!,":
        # An extension has a label before its sub-blocks; an image its place, palette and code size.
        at += 2 if block == ord("!") else 11 + _gif_palette(data[at + 9])
        while size := data[at]:
            at += size + 1
        at += 1
    return block == ord(";")


def _gif_palette(flags: int) -> int:
    """Tell the size of a colour table from the flags before it (GIF89a 18 and 20)."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _webp_ends(data: bytes) -> bool:
    """Reach the size that the RIFF header tells (RFC 9649 2.4)."""
    return 8 + _number(data, 4, 4, "little") <= len(data)


def _heif_ends(data: bytes) -> bool:
    """Have the boxes for the description and for the pixels of AVIF or HEIC (ISO 23008-12 10.2)."""
    return _boxes(data) >= {b"meta", b"mdat"}


def _jxl_ends(data: bytes) -> bool:
    """Have a codestream box (ISO 18181-2); a bare codestream has no end that is cheaply found."""
    return data.startswith(b"\xff\x0a") or not _boxes(data).isdisjoint({b"jxlc", b"jxlp"})


def _boxes(data: bytes) -> set[bytes]:
    """List the kinds of top-level boxes (ISO 14496-12 4.2); IndexError when one is cut short."""
    kinds, at = set(), 0
    while at != len(data):
        size = _number(data, at, 4) or len(data) - at
        if size == 1:
            size = _number(data, at + 8, 8)
        kinds.add(data[at + 4 : at + 8])
        at += max(size, 8)
    return kinds


def _bmp_ends(data: bytes) -> bool:
    """Reach the size in the BITMAPFILEHEADER, or the last row where a writer left that out."""
    size, pixels = _number(data, 2, 4, "little"), _number(data, 10, 4, "little")
    return (size if size > pixels else pixels + _bmp_rows(data)) <= len(data)


def _bmp_rows(data: bytes) -> int:
    """Compute the size of the uncompressed rows, each a multiple of 4 bytes (BITMAPINFOHEADER)."""
    side = 2 if data.startswith(b"\x0c", 14) else 4  # OS/2's header is the only one of 12 bytes
    width = _number(data, 18, side, "little")
    height = _number(data, 18 + side, side, "little")
    depth = _number(data, 20 + 2 * side, 2, "little")
    # The height of a picture stored top-down is negative.
    return (width * depth + 31) // 32 * 4 * min(height, (1 << 8 * side) - height)


def _ico_ends(data: bytes) -> bool:
    """Have all the pictures of the directory (Microsoft ICONDIR and ICONDIRENTRY)."""
    entries = range(6, 6 + 16 * _number(data, 4, 2, "little"), 16)
    places = ([_number(data, at + field, 4, "little") for field in (8, 12)] for at in entries)
    return all(sum(size_and_start) <= len(data) for size_and_start in places)


def _svg_ends(data: bytes) -> bool:
    """Close the root element with nothing but Misc behind it (XML 1.0, 2.1 and 2.8)."""
    text = decoded(data)
    if not (root := svg_root(text)):
        return False
    closing = text.rfind(f"</{root[1]}", root.end())
    end = text.find(">", max(closing, root.end()))
    is_closed = closing >= 0 or text[end - 1] == "/"
    return end >= 0 and is_closed and after_misc(text, end + 1) == len(text)


def _tiff_ends(data: bytes) -> bool:
    """Have every strip and tile of every page (TIFF 6.0, 3 and 15)."""
    return max(_Tiff(data).part_ends()) <= len(data)


class _Tiff:
    """The tables of a TIFF (TIFF 6.0, 2) or of a BigTIFF, which only widens counts and offsets."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._int = partial(int.from_bytes, byteorder="little" if data[:1] == b"I" else "big")
        self._word, self._count, self._entry = (8, 8, 20) if b"+" in data[2:4] else (4, 2, 12)
        # Honest tables do not overlap: this ends the walk through those that do, or go in circles.
        self._room = len(data)

    def part_ends(self) -> Iterator[int]:
        """Tell where the strips and the tiles of each page end; LookupError when broken."""
        at = self._int(self._take(self._word, self._word))
        for _ in range(_PAGE_LIMIT):
            size = self._int(self._take(at, self._count)) * self._entry
            entries = self._entries(self._take(at + self._count, size))
            for tags in _TIFF_PARTS:
                parts = (self._values(entries[tag]) for tag in tags if tag in entries)
                yield max(map(sum, zip_longest(*parts, fillvalue=0)), default=0)
            at = self._int(self._take(at + self._count + size, self._word))
            if not at:
                return
        raise LookupError(_PAGE_LIMIT)

    def _entries(self, table: bytes) -> dict[int, bytes]:
        starts = range(0, len(table), self._entry)
        return {self._int(table[at : at + 2]): table[at + 2 : at + self._entry] for at in starts}

    def _values(self, entry: bytes) -> list[int]:
        """Read the numbers of an entry, which holds their offset when they are too many for it."""
        width = _TIFF_WIDTHS[self._int(entry[:2])]
        size = self._int(entry[2 : -self._word]) * width
        value = entry[-self._word :]
        if size > self._word:
            value = self._take(self._int(value), size)
        return [self._int(value[at : at + width]) for at in range(0, size, width)]

    def _take(self, at: int, size: int) -> bytes:
        self._room -= size
        table = self._data[at : at + size]
        if self._room < 0 or len(table) < size:
            raise IndexError(at)
        return table


_ENDS: dict[str, Callable[[bytes], bool]] = {
    "image/jpeg": _jpeg_ends,
    "image/png": _png_ends,
    "image/gif": _gif_ends,
    "image/webp": _webp_ends,
    "image/avif": _heif_ends,
    "image/heic": _heif_ends,
    "image/jxl": _jxl_ends,
    "image/bmp": _bmp_ends,
    "image/x-icon": _ico_ends,
    "image/svg+xml": _svg_ends,
    "image/tiff": _tiff_ends,
}
