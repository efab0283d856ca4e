"""The child program: read pictures from stdin, write what decoding them gave to stdout."""

import math
import signal
import sys
import time
from collections.abc import Callable
from io import BytesIO

# The plugins that are not used below register their formats when they are imported. Without
# these imports, Pillow would import all of its plugins, which takes longer and loads more code.
from PIL import (
    AvifImagePlugin,
    CurImagePlugin,  # noqa: F401
    IcoImagePlugin,  # noqa: F401
    Image,
    ImageFile,
    Jpeg2KImagePlugin,  # noqa: F401
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,  # noqa: F401
    WebPImagePlugin,  # noqa: F401
)

from imgcache_scrapy.core.formats import sniff
from imgcache_scrapy.engine.decoding.limits import (
    FRAME_LIMITS,
    FULL_LIMITS,
    MEMORY_LIMIT,
    QUICK_LIMITS,
    Limits,
    hard_limit,
    limit_memory,
    lower_priority,
    prepare_soft_limits,
    soft_limit,
)
from imgcache_scrapy.engine.decoding.messages import (
    EVERY_FRAME,
    NOT_DECODED,
    QUICK_ONLY,
    READY,
    REQUEST,
    SIZE,
    THUMBNAILS,
    DecodeError,
    ImageInfo,
    reply_of,
    undecodable,
)
from imgcache_scrapy.engine.decoding.orientation import FIRST_SWAPPED, orientation_of, upright
from imgcache_scrapy.engine.decoding.phash import phash
from imgcache_scrapy.engine.decoding.shrinking import displayable, encoded, reduced, thumbnail_size

FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "AVIF", "BMP", "TIFF", "ICO", "CUR", "JPEG2000")
"""The formats that are decoded, by the names that Pillow uses; "JPEG" includes MPO."""

MAX_JPEG_PIXELS = 100_000_000
"""JPEGs with more pixels are not decoded."""

MAX_SCANS = 100
"""JPEGs with more scans are not decoded."""

SCANS_PER_PIXEL = 16
"""A JPEG pixel in this many scans takes as long to decode as a pixel of another format."""

REDUCED_SIDE = 256
"""A JPEG is decoded at a reduced size whose short side has at least this many pixels."""
_REDUCED_SIZE = (REDUCED_SIDE, REDUCED_SIDE)

# With one thread per core, the threads of a large machine would use up the address space.
AvifImagePlugin.DEFAULT_MAX_THREADS = 1

# Bytes for each pixel that these decoders need at most. If they lack memory, they report the same
# error as for a broken picture.
_MEMORY_PER_PIXEL = {"WEBP": 24, "AVIF": 24, "JPEG2000": 32, "TIFF": 12}
_MEMORY_PER_PROGRESSIVE_PIXEL = 8

# Larger texts of a PNG are not read, so the picture has no facts. Whether it is cut off is decided
# by Pillow's own limit: what Pillow decodes is not cut.
_MAX_TEXT_MEMORY = 8 << 20

_JPEG_START, _SCAN_MARKER = b"\xff\xd8\xff", b"\xff\xda"

# The modes I, I;16 and F: converting their values to 8 bits makes most of them white or black.
_WIDE_MODES = ("I", "F")


class _TooLargeError(Exception):
    pass


def main() -> None:
    """Answer pictures until stdin ends. The parent process replaces a program that ends earlier."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    prepare_soft_limits()
    decode: Callable[[bytes, Limits], ImageInfo | None] = info_of
    limits = QUICK_LIMITS if QUICK_ONLY in sys.argv else FULL_LIMITS
    if EVERY_FRAME in sys.argv:
        decode, limits = decode_every_frame, FRAME_LIMITS
    else:
        if THUMBNAILS in sys.argv:
            decode = with_thumbnail
            lower_priority()
        PngImagePlugin.MAX_TEXT_MEMORY = _MAX_TEXT_MEMORY
    limit_memory()
    requests, replies = sys.stdin.buffer, sys.stdout.buffer
    replies.write(READY)
    replies.flush()
    while header := requests.read(REQUEST.size):
        count, seconds_left = REQUEST.unpack(header)
        for _ in range(count):
            data = requests.read(*SIZE.unpack(requests.read(SIZE.size)))
            start = time.monotonic()
            info: ImageInfo | None = NOT_DECODED
            if seconds_left > 0:
                with hard_limit(limits.hard_seconds):
                    info = decode(data, limits)
            seconds = time.monotonic() - start
            if info is None or info.width is None:
                seconds_left -= seconds
            replies.write(reply_of(info, seconds))
            replies.flush()


def info_of(data: bytes, limits: Limits = FULL_LIMITS) -> ImageInfo | None:
    """Decode the first frame of a picture.

    Args:
        data: the whole picture.
        limits: the limits of its decoding.

    Returns:
        Its size as displayed and its perceptual hash, or the reason why there are none. None if
        it exceeds `limits`, so that a child with higher limits may decode it.
    """
    return _within(limits, _decode, data)


def decode_every_frame(data: bytes, limits: Limits = FRAME_LIMITS) -> ImageInfo | None:
    """Decode all frames of a picture, to find out whether Pillow can.

    Args:
        data: the whole picture.
        limits: the limits of its decoding.

    Returns:
        The size of its last frame; or `DecodeError.BROKEN` if a frame is cut off or broken. None,
        or another error, if the picture exceeds the limits, or its format is not decoded.
    """
    return _within(limits, _decode_frames, data)


def with_thumbnail(data: bytes, limits: Limits = FULL_LIMITS) -> ImageInfo | None:
    """Make a thumbnail of the first frame of a picture.

    Args:
        data: the whole picture.
        limits: the limits of its decoding.

    Returns:
        Its size as displayed and its thumbnail, without a perceptual hash; or as `info_of`.
    """
    return _within(limits, _make_thumbnail, data)


def _within(
    limits: Limits, decode: Callable[[bytes], ImageInfo | None], data: bytes
) -> ImageInfo | None:
    # The limit also applies to pictures inside of icons. Pillow refuses only pictures with more
    # than twice this number of pixels.
    Image.MAX_IMAGE_PIXELS = limits.pixels // 2
    try:
        with soft_limit(limits.soft_seconds):
            return decode(data)
    except (Image.DecompressionBombError, TimeoutError):
        return None
    except _TooLargeError:
        return undecodable(DecodeError.TOO_LARGE)
    except MemoryError:
        return undecodable(DecodeError.TOO_MUCH_MEMORY)
    except Exception as error:  # A plugin of Pillow may raise almost any exception.
        is_known = _is_decodable(data) and not str(error).startswith("Unsupported")
        return undecodable(DecodeError.BROKEN if is_known else DecodeError.FORMAT)


def _is_decodable(data: bytes) -> bool:
    """Return whether the bytes begin like a picture in one of `FORMATS`."""
    # Pillow takes every TGA of true colours for a cursor.
    accepts = (Image.OPEN[name][1] for name in FORMATS if name != "CUR")
    is_accepted = any(accept is not None and accept(data[:16]) for accept in accepts)
    return is_accepted or sniff(data) == "image/x-icon"


def _decode(data: bytes) -> ImageInfo:
    image = _open(data)
    width, height, orientation = _load_upright(image)
    if image.mode.startswith(_WIDE_MODES):
        return ImageInfo(width, height, None)
    is_reduced = max(image.size) < max(width, height)
    hashed = phash(upright(image, orientation), is_reduced=is_reduced)
    return ImageInfo(width, height, hashed)


def _make_thumbnail(data: bytes) -> ImageInfo:
    image = _open(data)
    width, height, orientation = _load_upright(image, "RGB", thumbnail_size(image.size))
    small = upright(reduced(displayable(image)), orientation)
    return ImageInfo(width, height, None, thumbnail=encoded(small))


def _decode_frames(data: bytes) -> ImageInfo:
    image = _open(data, JpegImagePlugin.jpeg_factory)
    frames = getattr(image, "n_frames", 1)
    for number in range(frames):
        image.seek(number)
        _check_memory(image, len(data))
        if frames == 1:
            _load(image)
        else:  # A reduced frame would change the size of the next ones.
            _check_pixels(math.prod(image.size))
            image.load()
    return ImageInfo(*image.size, None)


def _check_memory(image: Image.Image, size: int) -> None:
    needed = _MEMORY_PER_PIXEL.get(image.format or "", 0)
    if image.info.get("progressive"):
        needed = _MEMORY_PER_PROGRESSIVE_PIXEL
    # The file is in memory, and some decoders copy it.
    if needed * math.prod(image.size) + 2 * size > MEMORY_LIMIT:
        raise Image.DecompressionBombError


def _open(
    data: bytes,
    open_jpeg: Callable[[BytesIO], ImageFile.ImageFile] = JpegImagePlugin.JpegImageFile,
) -> ImageFile.ImageFile:
    if not data.startswith(_JPEG_START):
        return Image.open(BytesIO(data), formats=FORMATS)
    # Not `Image.open`, which would refuse a large JPEG although it is decoded at a reduced size.
    image = open_jpeg(BytesIO(data))
    scans = data.count(_SCAN_MARKER)
    if scans > MAX_SCANS or math.prod(image.size) > MAX_JPEG_PIXELS:
        raise _TooLargeError
    _check_pixels(math.prod(image.size) * scans // SCANS_PER_PIXEL)
    return image


def _check_pixels(pixels: int) -> None:
    if pixels > 2 * (Image.MAX_IMAGE_PIXELS or 0):
        raise Image.DecompressionBombError


def _load_upright(
    image: Image.Image, mode: str = "L", reduced_size: tuple[int, int] = _REDUCED_SIZE
) -> tuple[int, int, int]:
    """Decode as `_load`; return the width and the height as displayed, and the orientation."""
    width, height = _load(image, mode, reduced_size)
    orientation = orientation_of(image)
    if orientation >= FIRST_SWAPPED:
        width, height = height, width
    return width, height, orientation


def _load(
    image: Image.Image, mode: str = "L", reduced_size: tuple[int, int] = _REDUCED_SIZE
) -> tuple[int, int]:
    """Decode, at a reduced size if the format allows it, and return the full size."""
    size = image.size
    is_large = size[0] >= 2 * reduced_size[0] and size[1] >= 2 * reduced_size[1]
    is_reduced = is_large and image.draft(mode, reduced_size) is not None
    _check_pixels(math.prod(image.size))
    image.load()
    # After loading: the size in the directory of an ICO may be wrong.
    return size if is_reduced else image.size


if __name__ == "__main__":
    main()
