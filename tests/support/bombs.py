"""Pictures that are expensive to decode, and damaged pictures."""

import struct
import zlib
from collections.abc import Callable, Iterator
from functools import cache
from itertools import cycle, islice
from random import Random

from PIL import Image

from tests.support.pictures import chunk, encoded, noise

FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "AVIF", "BMP", "TIFF", "ICO")


@cache
def deflated(size: int) -> bytes:
    """Compress this number of zero bytes; each megabyte gives the same block."""
    packer = zlib.compressobj(9, wbits=-15)
    block = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    rest = packer.compress(bytes(size % (1 << 20))) + packer.flush()
    # Zeros change only the upper half of the checksum.
    checksum = (size % 65521) << 16 | 1
    return b"\x78\xda" + block * (size >> 20) + rest + struct.pack("!I", checksum)


def png(width: int, height: int, color: int = 0, more: bytes = b"") -> bytes:
    """Create a black PNG: greyscale (0), RGB (2) or RGBA (6), with additional chunks."""
    row = 1 + width * {0: 1, 2: 3, 6: 4}[color]
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack("!IIBBBBB", width, height, 8, color, 0, 0, 0))
        + more
        + chunk(b"IDAT", deflated(row * height))
        + chunk(b"IEND", b"")
    )


def scans(side: int, count: int) -> bytes:
    """Create a progressive JPEG in which one scan is repeated until it has this number of scans."""
    data = encoded(Image.new("RGB", (side, side), "red"), "JPEG", progressive=True)
    last = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + last * (count - data.count(b"\xff\xda")) + data[-2:]


def frames(count: int) -> list[Image.Image]:
    """Create this number of different small pictures."""
    return [
        Image.frombytes("L", (16, 16), number.to_bytes(2, "big") * 128) for number in range(count)
    ]


def animation(kind: str, count: int) -> bytes:
    """Create an animation."""
    first, *others = frames(count)
    return encoded(first, kind, save_all=True, append_images=others)


def gif_canvas(width: int, height: int) -> bytes:
    """Create an animation of 16 pixels on a canvas of this size."""
    data = animation("GIF", 20)
    return data[:6] + struct.pack("<HH", width, height) + data[10:]


def webp_canvas(width: int, height: int) -> bytes:
    """Create an animation of 16 pixels on a canvas of this size, at most 16,384 pixels wide."""
    data = animation("WEBP", 20)
    size = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return data[:24] + size + data[30:]


def lying_bmp(width: int, height: int) -> bytes:
    """Create a BMP with far fewer pixels than its header declares."""
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 154, 0, 0, 54) + header + bytes(100)


def slow_bmp(width: int, height: int) -> bytes:
    """Create a BMP of four bytes per row, which Pillow decodes pixel by pixel in Python."""
    rows = b"\x01\x01\0\0" * height + b"\0\x01"
    header = (40, width, height, 1, 8, 1, len(rows), 0, 0, 256, 0)
    start = 14 + 40 + 1024
    head = b"BM" + struct.pack("<IHHI", start + len(rows), 0, 0, start)
    return head + struct.pack("<IiiHHIIiiII", *header) + bytes(1024) + rows


def tiff(width: int, height: int, strips: int = 1) -> bytes:
    """Create a TIFF whose strips all use the same few bytes."""
    rows = -(-height // strips)
    tables = 8 + 2 + 9 * 12 + 4
    tags = {
        256: (1, width),
        257: (1, height),
        258: (1, 8),
        259: (1, 1),
        262: (1, 1),
        273: (strips, 8 if strips == 1 else tables),
        277: (1, 1),
        278: (1, rows),
        279: (strips, width * rows if strips == 1 else tables + 4 * strips),
    }
    entries = b"".join(struct.pack("<HHII", tag, 4, *value) for tag, value in tags.items())
    places = struct.pack("<I", 8) * strips + struct.pack("<I", width * rows) * strips
    return struct.pack("<2sHIH", b"II", 42, 8, len(tags)) + entries + bytes(4) + places


def icon(png: bytes) -> bytes:
    """Create an icon whose directory declares 256 by 256 pixels, with a PNG of any size."""
    return struct.pack("<HHHBBBBHHII", 0, 1, 1, 0, 0, 0, 0, 1, 32, len(png), 22) + png


def _texts(count: int, size: int) -> bytes:
    return b"".join(chunk(b"zTXt", b"%d\0\0" % i + deflated(size)) for i in range(count))


# Each function takes a number, so that all bombs differ; decoders refuse them or decode them fast.
BOMBS: dict[str, Callable[[int], bytes]] = {
    "89 megapixels": lambda n: png(9_400, 9_400 + n),
    "89 megapixels, colors": lambda n: png(9_400, 9_400 + n, color=2),
    "over 100 megapixels": lambda n: png(10_001, 10_000 + n),
    "5,000 scans": lambda n: scans(1_000 + n, 5_000),
    "100 scans": lambda n: scans(4_000 + n, 100),
    "zTXt, one of a gigabyte": lambda n: png(16, 16 + n, more=_texts(1, 2**30)),
    "zTXt, 500 megabytes": lambda n: png(16, 16 + n, more=_texts(500, 1_000_000)),
    "iCCP": lambda n: png(16, 16 + n, more=chunk(b"iCCP", b"a\0\0" + deflated(2**30))),
    "GIF, 3,000 frames": lambda n: animation("GIF", 3_000 + n),
    "GIF, canvas": lambda n: gif_canvas(65_535, 65_535 - n),
    "GIF, canvas of 80 megapixels": lambda n: gif_canvas(9_000, 9_000 - n),
    "WebP, 2,000 frames": lambda n: animation("WEBP", 2_000 + n),
    "WebP, canvas": lambda n: webp_canvas(16_384, 16_384 - n),
    "WebP, canvas of 80 megapixels": lambda n: webp_canvas(9_000, 9_000 - n),
    "APNG, 1,000 frames": lambda n: animation("PNG", 1_000 + n),
    "lying BMP": lambda n: lying_bmp(9_000, 2_700 + n),
    "lying TIFF": lambda n: tiff(9_000, 2_700 - n),
    "icon": lambda n: icon(png(9_400, 9_400 + n)),
}

# These pass the limits that are checked before decoding, and still take a second or more.
SLOW: dict[str, Callable[[int], bytes]] = {
    "BMP": lambda n: slow_bmp(5_000, 4_900 + n),
    "small BMP": lambda n: slow_bmp(2_000, 1_900 + n),
    "PNG": lambda n: png(5_000, 4_900 + n, color=6),
    "WebP": lambda n: webp_canvas(4_200, 4_200 - n),
    "zTXt, many": lambda n: png(16, 16 + n, more=_texts(50_000, 100)),
    "zTXt, 8 megabytes": lambda n: png(16, 16 + n, more=_texts(8, 1_000_000)),
    "TIFF, many strips": lambda n: tiff(1, 300_000 + n, strips=300_000 + n),
}


def bombs(count: int, kinds: dict[str, Callable[[int], bytes]] = BOMBS) -> Iterator[bytes]:
    """Yield this number of bombs, of all kinds in turn."""
    for number, make in islice(enumerate(cycle(kinds.values())), count):
        yield make(number // len(kinds))


def damaged(count: int, seed: int = 1) -> Iterator[bytes]:
    """Yield this number of pictures of every format, truncated or with some flipped bits."""
    random = Random(seed)
    sound = [encoded(_any_noise(random, kind), kind) for kind in FORMATS for _ in range(3)]
    for data in islice(cycle(sound), count):
        broken = bytearray(data)
        if random.random() < 0.3:
            del broken[random.randrange(1, len(broken)) :]
        for _ in range(random.randrange(1, 9)):
            broken[random.randrange(len(broken))] ^= 1 << random.randrange(8)
        yield bytes(broken)


def _any_noise(random: Random, kind: str) -> Image.Image:
    width, height = random.randrange(16, 64), random.randrange(16, 64)
    mode = random.choice(["L", "RGB", "RGBA"] if kind in {"PNG", "WEBP", "TIFF"} else ["L", "RGB"])
    return noise(width, height, mode, random.getrandbits(32))
