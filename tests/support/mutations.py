"""Pictures of every format, and what servers, proxies and careless writers make of them."""

import io
import struct
import warnings
from collections.abc import Iterator
from functools import cache
from itertools import pairwise

from PIL import Image

from tests.support.pictures import chunk, cursor, encoded, noise

CUTS = 20


def decodes(data: bytes) -> bool:
    """Return whether Pillow opens a picture and decodes each of its frames."""
    with warnings.catch_warnings(action="ignore"):
        try:
            with Image.open(io.BytesIO(data)) as image:
                for number in range(getattr(image, "n_frames", 1)):
                    image.seek(number)
                    image.load()
        except Exception:
            return False
    return True


@cache
def pictures(side: int = 24) -> dict[str, bytes]:
    """Make a good picture of every format and of many of its variants."""
    first = noise(side, side)
    grey, palette, clear = noise(side, side, "L"), first.quantize(16), noise(side, side, "RGBA")
    return {
        "JPEG": encoded(first, "JPEG"),
        "JPEG, progressive": encoded(first, "JPEG", progressive=True),
        "JPEG, restarts": encoded(grey, "JPEG", restart_marker_blocks=1),
        "JPEG, CMYK": encoded(first.convert("CMYK"), "JPEG"),
        "JPEG, large": encoded(noise(6, 6).resize((700, 530)), "JPEG"),
        "JPEG, large, progressive": encoded(
            noise(6, 6).resize((700, 530)), "JPEG", progressive=True
        ),
        "JPEG with a thumbnail": with_thumbnail(encoded(first, "JPEG")),
        "MPO": _animation("MPO", side),
        "PNG": encoded(first, "PNG"),
        "PNG, palette": encoded(palette, "PNG"),
        "PNG, 16 bits": encoded(noise(side, side, "I;16"), "PNG"),
        "PNG, many chunks": split_idat(encoded(first, "PNG")),
        "APNG": _animation("PNG", side),
        "GIF": encoded(palette, "GIF"),
        "GIF, animated": _animation("GIF", side),
        "WebP, lossy": encoded(first, "WEBP"),
        "WebP, lossless": encoded(clear, "WEBP", lossless=True),
        "WebP, animated": _animation("WEBP", side),
        "AVIF": encoded(first, "AVIF"),
        "AVIF, alpha": encoded(clear, "AVIF"),
        "AVIF, animated": _animation("AVIF", side),
        "BMP": encoded(first, "BMP"),
        "BMP, palette": encoded(palette, "BMP"),
        "BMP, 32 bits": encoded(clear, "BMP"),
        "TIFF": encoded(first, "TIFF"),
        "TIFF, LZW": encoded(first, "TIFF", compression="tiff_lzw"),
        "TIFF, deflate": encoded(grey, "TIFF", compression="tiff_adobe_deflate"),
        "TIFF, JPEG": encoded(first, "TIFF", compression="jpeg"),
        "TIFF, palette": encoded(palette, "TIFF"),
        "TIFF, pages": _animation("TIFF", side),
        "TIFF, big": encoded(first, "TIFF", big_tiff=True),
        "TIFF, table at the end": table_at_end(first, values_last=False),
        "TIFF, values at the end": table_at_end(first, values_last=True),
        "ICO": encoded(clear, "ICO", sizes=[(8, 8), (side, side)]),
        "ICO of BMPs": encoded(clear, "ICO", sizes=[(16, 16)], bitmap_format="bmp"),
        "CUR": cursor(clear),
        "JPEG 2000": encoded(first, "JPEG2000"),
        "JPEG 2000 codestream": encoded(first, "JPEG2000", no_jp2=True),
    }


def mutations(name: str, data: bytes) -> Iterator[tuple[str, bytes]]:
    """Change a picture in ways that a browser may not even notice."""
    yield "as it is", data
    yield "line end behind", data + b"\r\n"
    yield "text behind", data + b"<!-- served in 3 ms -->\n"
    yield "zeros behind", data + bytes(512)
    yield "another picture behind", data + data
    yield "HTTP chunk behind", data + b"\r\n0\r\n\r\n"
    for size in (1, 2, 4, 8, 12, 16):
        yield f"{size} bytes less", data[:-size]
    for size in (1, 2, 4, 12):
        yield f"zeros for the last {size} bytes", data[:-size] + bytes(size)
        yield f"text for the last {size} bytes", data[:-size] + b"\r\n<!-- end -->"
    kind = name.replace(",", "").split()[0]
    yield from _OWN.get(kind, lambda _: iter(()))(data)


def cuts(data: bytes, count: int = CUTS) -> Iterator[bytes]:
    """Cut a picture off at places that are spread over it."""
    for number in range(count):
        yield data[: 1 + (len(data) - 1) * number // count]


def with_thumbnail(data: bytes) -> bytes:
    """Put a whole JPEG into the EXIF data of a JPEG."""
    content = b"Exif\0\0MM\0*\0\0\0\x08" + bytes(6) + data
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(content) + 2) + content + data[2:]


def _animation(kind: str, side: int) -> bytes:
    first, *others = (noise(side, side, seed=seed) for seed in (1, 2, 3))
    return encoded(first, kind, save_all=True, append_images=others)


def split_idat(data: bytes) -> bytes:
    """Put the pixels of a PNG into chunks of 100 bytes."""
    start = data.index(b"IDAT") - 4
    size = int.from_bytes(data[start : start + 4], "big")
    body, rest = data[start + 8 : start + 8 + size], data[start + 12 + size :]
    parts = (body[offset : offset + 100] for offset in range(0, size, 100))
    return data[:start] + b"".join(chunk(b"IDAT", part) for part in parts) + rest


def table_at_end(image: Image.Image, *, values_last: bool) -> bytes:
    """Make an uncompressed TIFF whose pixels come first.

    Args:
        image: the pixels, in colours.
        values_last: whether the values of the directory come behind it, or before it.
    """
    pixels = image.tobytes()
    values = struct.pack("<3H16s", 8, 8, 8, b"a program's name")
    behind = 8 + len(pixels)
    directory = behind if values_last else behind + len(values)
    place = behind + 2 + 10 * 12 + 4 if values_last else behind
    tags = [
        (256, 4, 1, image.width),
        (257, 4, 1, image.height),
        (258, 3, 3, place),
        (259, 3, 1, 1),
        (262, 3, 1, 2),
        (273, 4, 1, 8),
        (277, 3, 1, 3),
        (278, 4, 1, image.height),
        (279, 4, 1, len(pixels)),
        (305, 2, 16, place + 6),
    ]
    table = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags)
    head, link = struct.pack("<2sHI", b"II", 42, directory), bytes(4)
    end = table + link + values if values_last else values + table + link
    return head + pixels + end


def _of_jpeg(data: bytes) -> Iterator[tuple[str, bytes]]:
    yield "no EOI, but zeros", data[:-2] + bytes(64)
    yield "no EOI, but a trailer", data[:-2] + b"\xff\xfe\0\x06done" + b"\r\n"
    yield "no EOI, but padding", data[:-2] + b"\xff" * 16
    yield "half of EOI", data[:-1]
    yield "fill before EOI", data[:-2] + b"\xff\xff\xff\xd9"


def _of_png(data: bytes) -> Iterator[tuple[str, bytes]]:
    end = data.rindex(b"IEND") - 4
    yield "no IEND", data[:end]
    yield "no IEND, but text", data[:end] + b"\r\n<!-- -->"
    yield "no CRC of IEND", data[: end + 8]
    yield "zeros for the CRC of IEND", data[: end + 8] + bytes(4)
    yield "no CRC of IDAT", data[: end - 4]
    yield "lying IEND", data[:end] + b"\0\0\0\x09IEND" + data[end + 8 :]
    yield "text before IEND", data[:end] + chunk(b"tEXt", b"a\0b") + data[end:]
    yield "cut text before IEND", data[:end] + chunk(b"tEXt", b"a\0b")[:-6]


def _of_gif(data: bytes) -> Iterator[tuple[str, bytes]]:
    yield "no trailer", data[:-1]
    yield "zero for the trailer", data[:-1] + b"\0"
    yield "zeros for the trailer", data[:-1] + bytes(9)
    yield "zeros before the trailer", data[:-1] + bytes(5) + b";"
    yield "text for the trailer", data[:-1] + b"\r\n"
    for number, start in enumerate(_starts(data, b"!\xf9\x04")):
        yield f"zeros before block {number}", data[:start] + bytes(3) + data[start:]
    yield "no end of the last block", data[:-2]
    yield "comment behind", data[:-1] + b"!\xfe\x02hi\0;"


def _of_webp(data: bytes) -> Iterator[tuple[str, bytes]]:
    yield from _lying(data, 4)
    yield from _lying(data, 16)


def _of_avif(data: bytes) -> Iterator[tuple[str, bytes]]:
    yield from _lying(data, data.index(b"mdat") - 4, ">I")
    yield "mdat to the end", _put(data, data.index(b"mdat") - 4, 0, ">I")
    yield "box behind", data + struct.pack(">I4s", 16, b"free") + bytes(8)
    if b"moov" not in data:
        yield "pixels in idat", pixels_in_idat(data)


def _of_bmp(data: bytes) -> Iterator[tuple[str, bytes]]:
    yield from _lying(data, 2)
    yield from _lying(data, 34)
    yield "no size", _put(data, 2, 0)


def _of_ico(data: bytes) -> Iterator[tuple[str, bytes]]:
    yield from _lying(data, 14)
    yield "no size", _put(data, 14, 0)
    for depth in (0, 2, 15, 64, 255):
        yield f"{depth} bits", data[:12] + struct.pack("<H", depth) + data[14:]
    yield "three planes", data[:10] + b"\3\0" + data[12:]
    yield "255 reserved", data[:9] + b"\xff" + data[10:]


def _of_tiff(data: bytes) -> Iterator[tuple[str, bytes]]:
    for place in sorted(set(_tiff_ends(data))):
        yield f"nothing from {place} on, where a table ends", data[:place]
        yield f"cut link at {place}", data[: place + 2]
    for start, end in _tiff_directories(data):
        for place in range(start + 2, end, 12):
            if data[place : place + 2] == struct.pack("<H", 284):
                changed = data[:place] + struct.pack("<HHII", 256, 3, 1, 1) + data[place + 12 :]
                for size in _tiff_values(data, 279):
                    yield f"a second, small width at {place}", _put(changed, size, 100)
    for tag in (273, 279, 278):
        for place in _tiff_values(data, tag):
            yield from ((f"tag {tag}: {name}", lie) for name, lie in _lying(data, place))


def _of_jpeg_2000(data: bytes) -> Iterator[tuple[str, bytes]]:
    yield "no EOC", data.removesuffix(b"\xff\xd9")
    yield "zeros for EOC", data.removesuffix(b"\xff\xd9") + bytes(2)


_OWN = {
    "JPEG": lambda data: _of_jpeg_2000(data) if b"\xff\x4f\xff\x51" in data else _of_jpeg(data),
    "MPO": _of_jpeg,
    "PNG": _of_png,
    "APNG": _of_png,
    "GIF": _of_gif,
    "WebP": _of_webp,
    "AVIF": _of_avif,
    "BMP": _of_bmp,
    "ICO": _of_ico,
    "CUR": _of_ico,
    "TIFF": _of_tiff,
}


def pixels_in_idat(data: bytes) -> bytes:
    """Move the pixels of a still AVIF from the box `mdat` into a box `idat` inside of `meta`.

    It has one item, as Pillow writes it without alpha; the box `iloc` gets the method 1.
    """
    mdat = data.index(b"mdat") - 4
    pixels = data[mdat + 8 :]
    meta, iloc = data.index(b"meta") - 4, data.index(b"iloc") - 4
    meta_size = int.from_bytes(data[meta : meta + 4], "big")
    iloc_size = int.from_bytes(data[iloc : iloc + 4], "big")
    count = int.from_bytes(data[iloc + 14 : iloc + 16], "big")
    items, offset = b"", iloc + 16
    for _ in range(count):
        # item_ID, data_reference_index, extent_count, one extent of 4 and 4 bytes
        item, extent, size = struct.unpack_from(">H4xII", data, offset)
        items += struct.pack(">HHHHII", item, 1, 0, 1, extent - mdat - 8, size)
        offset += 14
    new_iloc = struct.pack(">I4sIHH", 16 + len(items), b"iloc", 1 << 24, 0x4400, count) + items
    idat = struct.pack(">I4s", 8 + len(pixels), b"idat") + pixels
    size = meta_size - iloc_size + len(new_iloc) + len(idat)
    head = data[:meta] + struct.pack(">I", size) + data[meta + 4 : iloc]
    return head + new_iloc + data[iloc + iloc_size : meta + meta_size] + idat


def _lying(data: bytes, place: int, kind: str = "<I") -> Iterator[tuple[str, bytes]]:
    """Let a size field say other sizes."""
    (size,) = struct.unpack_from(kind, data, place)
    for lie in (size // 2, size - 2, size - 1, size + 1, size + 2, 2 * size, 2**31, 2**32 - 1):
        if lie >= 0:
            yield f"{lie} for {size} at {place}", _put(data, place, lie, kind)


def _put(data: bytes, place: int, number: int, kind: str = "<I") -> bytes:
    return data[:place] + struct.pack(kind, number) + data[place + 4 :]


def _starts(data: bytes, part: bytes) -> Iterator[int]:
    start = data.find(part)
    while start >= 0:
        yield start
        start = data.find(part, start + 1)


def _tiff_directories(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield the start and the end of each directory of a little-endian TIFF."""
    if data[:4] != b"II*\0":
        return
    (start,) = struct.unpack_from("<I", data, 4)
    while start:
        end = start + 2 + 12 * struct.unpack_from("<H", data, start)[0]
        yield start, end
        (start,) = struct.unpack_from("<I", data, end)


def _tiff_ends(data: bytes) -> Iterator[int]:
    for _, end in _tiff_directories(data):
        yield from (end, end + 4)


def _tiff_values(data: bytes, tag: int) -> Iterator[int]:
    """Yield the places of a tag's numbers of 4 bytes that are in the directories."""
    for start, end in _tiff_directories(data):
        for place, _ in pairwise([*range(start + 2, end, 12), end]):
            found, kind, count = struct.unpack_from("<HHI", data, place)
            if (found, kind, count) == (tag, 4, 1):
                yield place + 8
