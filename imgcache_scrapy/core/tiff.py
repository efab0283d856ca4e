"""Check quickly whether a TIFF is visibly whole, without decoding it."""

import math
import struct
from collections.abc import Iterator
from itertools import repeat
from typing import NamedTuple

MAX_TIFF_STEPS = 20_000
"""Maximum number of directory entries, strips and tiles that are read."""

# The sizes in bytes of the types of values, and the types that are whole numbers.
_SIZES = {
    **dict.fromkeys((1, 2, 6, 7), 1),
    **dict.fromkeys((3, 8), 2),
    **dict.fromkeys((4, 9, 11, 13), 4),
    **dict.fromkeys((5, 10, 12, 16, 17, 18), 8),
}
_NUMBERS = {3: "H", 4: "I", 16: "Q"}
_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _SAMPLES, _PLANES = 256, 257, 258, 259, 277, 284
_STRIP_HEIGHT, _TILE_WIDTH, _TILE_HEIGHT = 278, 322, 323
# StripOffsets and StripByteCounts, then TileOffsets and TileByteCounts.
_PARTS = ((273, 279), (324, 325))
_NONE, _OLD_JPEG = 1, 6
_SEPARATE_PLANES = 2


class _Values(NamedTuple):
    """The place of a tag's values."""

    kind: int
    number: int
    start: int


def is_whole_tiff(data: bytes) -> bool:
    """Check that the values, the strips and the tiles of all pages are there (TIFF 6.0, 2 and 8).

    Args:
        data: the whole file, of TIFF or of BigTIFF with its wider integers.

    Returns:
        False if something is missing, unusual, or beyond `MAX_TIFF_STEPS`.

    Raises:
        LookupError: there is an unknown type, or a tag is missing.
        struct.error: a table is missing.
    """
    return _Tiff(data).is_whole()


class _Tiff:
    def __init__(self, data: bytes) -> None:
        self._data = memoryview(data)
        self._order = "<" if data.startswith(b"I") else ">"
        is_big = b"+" in data[2:4]
        self._count, self._offset = ("Q", "Q") if is_big else ("H", "I")
        self._entry = struct.Struct(f"{self._order}HH{self._offset}{self._offset}")
        self._steps_left = MAX_TIFF_STEPS

    def is_whole(self) -> bool:
        offset = self._number(self._offset, struct.calcsize(self._offset))
        while True:
            count = self._number(self._count, offset)
            start = offset + struct.calcsize(self._count)
            end = start + count * self._entry.size
            if not self._has_time_for(count) or not self._is_whole_page(start, end):
                return False
            offset = self._number(self._offset, end)
            if not offset:
                return True

    def _is_whole_page(self, start: int, end: int) -> bool:
        tags: dict[int, _Values] = {}
        inline = struct.calcsize(self._offset)
        table = self._data[start:end]
        for index, (tag, kind, count, offset) in enumerate(self._entry.iter_unpack(table)):
            size = _SIZES[kind] * count
            if size <= inline:
                offset = start + (index + 1) * self._entry.size - inline  # noqa: PLW2901
            if offset + size > len(self._data) or tag in tags:
                return False
            tags[tag] = _Values(kind, count, offset)
        return self._has_pixels(tags)

    def _has_pixels(self, tags: dict[int, _Values]) -> bool:
        offsets, sizes = _PARTS[_PARTS[0][0] not in tags]
        number = tags[offsets].number
        if not number or number != tags[sizes].number or not self._has_time_for(number):
            return False
        parts = zip(
            self._values(tags[offsets]),
            self._values(tags[sizes]),
            self._least_sizes(tags),
            strict=False,
        )
        return all(least <= size <= len(self._data) - start for (start,), (size,), least in parts)

    def _least_sizes(self, tags: dict[int, _Values]) -> Iterator[float]:
        """Yield the least size of each strip or tile; infinity if it may be anything.

        Decoders do not use the stated sizes of pixels without compression, so they may be wrong.
        """
        compression = self._first(tags, _COMPRESSION, _NONE)
        if compression != _NONE:
            yield from repeat(math.inf if compression == _OLD_JPEG else 1)
        height, bits = self._first(tags, _HEIGHT), self._first(tags, _BITS, 1)
        if self._first(tags, _PLANES, 1) != _SEPARATE_PLANES:
            bits *= self._first(tags, _SAMPLES, 1)
        if _PARTS[0][0] not in tags:
            tile = (self._first(tags, _TILE_WIDTH) * bits + 7) // 8
            yield from repeat(tile * self._first(tags, _TILE_HEIGHT) or math.inf)
        row = (self._first(tags, _WIDTH) * bits + 7) // 8
        rows, top = self._first(tags, _STRIP_HEIGHT, height), 0
        while True:
            yield row * min(rows, height - top) or math.inf
            top = top + rows if top + rows < height else 0

    def _first(self, tags: dict[int, _Values], tag: int, default: int | None = None) -> int:
        if tag not in tags and default is not None:
            return default
        return int(next(self._values(tags[tag]), (0,))[0])

    def _values(self, values: _Values) -> Iterator[tuple[int, ...]]:
        number = struct.Struct(self._order + _NUMBERS[values.kind])
        end = values.start + values.number * number.size
        return number.iter_unpack(self._data[values.start : end])

    def _number(self, kind: str, offset: int) -> int:
        return int(struct.unpack_from(self._order + kind, self._data, offset)[0])

    def _has_time_for(self, steps: int) -> bool:
        self._steps_left -= steps + 1
        return self._steps_left > 0
