"""Functions that create encoded pictures; each seed gives other pixels."""

import struct
import zlib
from io import BytesIO
from random import Random
from typing import Any

from PIL import Image


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    """Encode an image.

    Args:
        image: the pixels.
        kind: Pillow's name of the format.
        options: options of Pillow's encoder.
    """
    file = BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def chunk(kind: bytes, body: bytes = b"") -> bytes:
    """Create a chunk of a PNG."""
    return struct.pack("!I", len(body)) + kind + body + struct.pack("!I", zlib.crc32(kind + body))


def noise(width: int, height: int, mode: str = "RGB", seed: int = 1) -> Image.Image:
    """Create an image of random pixels."""
    size = width * height * len(Image.new(mode, (1, 1)).tobytes())
    return Image.frombytes(mode, (width, height), Random(seed).randbytes(size))


def picture(seed: int = 1, side: int = 32) -> bytes:
    """Create a square PNG of grey noise."""
    return encoded(noise(side, side, "L", seed), "PNG")


def jpeg(seed: int = 0, size: tuple[int, int] = (64, 48), **options: Any) -> bytes:
    """Create a JPEG of coarse noise."""
    image = noise(8, 6, seed=seed).resize(size, Image.Resampling.BICUBIC)
    return encoded(image, "JPEG", **options)


def cursor(image: Image.Image) -> bytes:
    """Make a cursor of an image; the tip of its pointer is at 3, 5."""
    icon = bytearray(encoded(image, "ICO", sizes=[image.size], bitmap_format="bmp"))
    icon[2] = 2
    icon[10:14] = struct.pack("<HH", 3, 5)
    return bytes(icon)
