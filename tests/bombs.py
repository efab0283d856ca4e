"""Pictures made to hurt whoever decodes them: small files that cost pixels, scans, chunks, frames."""

import struct
import zlib
from collections.abc import Callable, Iterator
from io import BytesIO
from random import Random

from PIL import Image


def chunk(kind: bytes, body: bytes) -> bytes:
    """Make a chunk of a PNG."""
    return struct.pack("!I", len(body)) + kind + body + struct.pack("!I", zlib.crc32(kind + body))


def deflated(size: int) -> bytes:
    """Compress so many zeros, without ever having them."""
    packer = zlib.compressobj(9)
    parts = [packer.compress(bytes(1 << 20)) for _ in range(size >> 20)]
    return b"".join([*parts, packer.compress(bytes(size % (1 << 20))), packer.flush()])


def png(width: int, height: int, *, depth: int = 8, color: int = 0, more: bytes = b"") -> bytes:
    """Make a black PNG."""
    samples = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[color]
    row = 1 + (width * depth * samples + 7) // 8
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack("!IIBBBBB", width, height, depth, color, 0, 0, 0))
        + more
        + chunk(b"IDAT", deflated(row * height))
        + chunk(b"IEND", b"")
    )


def scans(side: int, count: int) -> bytes:
    """Make a progressive JPEG with one of its scans repeated."""
    file = BytesIO()
    Image.new("RGB", (side, side), "red").save(file, "JPEG", progressive=True, optimize=False)
    data = file.getvalue()
    last = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + last * (count - data.count(b"\xff\xda")) + data[-2:]


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    file = BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()
