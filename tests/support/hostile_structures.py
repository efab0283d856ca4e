"""Large pictures with structures that take long to read, as a hostile site may serve them."""

import struct
from collections.abc import Callable

from tests.support.pictures import chunk

SIZE = 24 * 2**20


def box(kind: bytes, content: bytes = b"") -> bytes:
    """Make a box of an AVIF."""
    return struct.pack(">I", 8 + len(content)) + kind + content


def fill(start: bytes, part: bytes) -> bytes:
    """Repeat a part behind a start, up to `SIZE`."""
    return start + part * (SIZE // len(part) + 1)


def tiff(tag: int, kind: int, count: int, place: int) -> bytes:
    """Make a TIFF of one tag, which may refer to itself, and of many zeros."""
    return b"II*\0\x08\0\0\0" + struct.pack("<HHHIII", 1, tag, kind, count, place, 8) + bytes(SIZE)


def huge_table() -> bytes:
    """Make a TIFF whose tables of strips fill it."""
    strips = SIZE // 8
    tags = [(256, 4, 1, 1), (257, 4, 1, strips), (273, 4, strips, 100), (279, 4, strips, 100)]
    table = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    head = b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + table + bytes(4)
    return head.ljust(100) + struct.pack("<I", 1) * strips * 3


AVIF = box(b"ftyp", b"avif\0\0\0\0avif")
PNG = b"\x89PNG\r\n\x1a\n"

HOSTILE: dict[str, Callable[[], bytes]] = {
    "JPEG of fill": lambda: fill(b"\xff\xd8", b"\xff"),
    "JPEG of segments": lambda: fill(b"\xff\xd8", b"\xff\xc4\0\2"),
    "JPEG of escaped bytes": lambda: fill(b"\xff\xd8\xff\xda\0\2", b"\xff\0"),
    "JPEG of restarts": lambda: fill(b"\xff\xd8\xff\xda\0\2", b"\xff\xd0"),
    "JPEG without end": lambda: fill(b"\xff\xd8\xff\xda\0\2", b"\0"),
    "PNG of empty chunks": lambda: fill(PNG, chunk(b"tEXt")),
    "GIF of small blocks": lambda: fill(b"GIF89a" + bytes(7) + b"!\xfe", b"\1a"),
    "GIF of extensions": lambda: fill(b"GIF89a" + bytes(7), b"!\xfe\0"),
    "WebP of empty chunks": lambda: fill(
        b"RIFF" + struct.pack("<I", SIZE) + b"WEBP", b"VP8X\0\0\0\0"
    ),
    "AVIF of boxes": lambda: fill(AVIF, box(b"free")),
    "AVIF of inner boxes": lambda: AVIF + box(b"meta", fill(bytes(4), box(b"free"))),
    "AVIF of items": lambda: (
        AVIF + box(b"meta", bytes(4) + box(b"iloc", b"\2\0\0\0\0\0\xff\xff\xff\xff" + bytes(SIZE)))
    ),
    "ICO of entries": lambda: fill(b"\0\0\1\0\xff\xff" + bytes(12) + b"\x2a\0\0\0", b"\x28\0\0\0"),
    "TIFF in a circle": lambda: tiff(273, 4, 1, 0),
    "TIFF with overlapping tables": lambda: tiff(273, 3, SIZE // 4, 9),
    "TIFF with huge tables": huge_table,
    "JPEG 2000 of markers": lambda: fill(b"\xff\x4f\xff\x51", b"\0\0"),
    "JPEG 2000 without lengths": lambda: fill(
        b"\xff\x4f\xff\x51\0\2\xff\x90\0\x0a" + bytes(8), b"\xff\0"
    ),
    "SVG of comments": lambda: fill(b"", b"<!---->"),
}
"""Each is larger than 20 MiB."""
