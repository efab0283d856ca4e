"""The child program: read pictures from stdin, write their size and perceptual hash to stdout."""

import math
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

# The plugins that are not used below register their formats when they are imported. Without
# these imports, Pillow would import all of its plugins, which takes longer and loads more code.
from PIL import (
    AvifImagePlugin,
    ExifTags,
    IcoImagePlugin,  # noqa: F401
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,  # noqa: F401
    WebPImagePlugin,  # noqa: F401
)

from imgcache_scrapy.engine.decoding.messages import (
    QUICK_ONLY,
    READY,
    REQUEST,
    DecodeError,
    ImageInfo,
    reply_of,
    undecodable,
)
from imgcache_scrapy.engine.decoding.phash import phash

FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "AVIF", "BMP", "TIFF", "ICO")
"""The formats that are decoded, by the names that Pillow uses; "JPEG" includes MPO."""

MAX_PIXELS = 25_000_000
"""Pictures with more pixels are not decoded, except JPEGs, which are decoded at a reduced size."""

MAX_JPEG_PIXELS = 100_000_000
"""JPEGs with more pixels are not decoded."""

MAX_SCANS = 100
"""JPEGs with more scans are not decoded."""

SCANS_PER_PIXEL = 16
"""A JPEG pixel in this many scans takes as long to decode as a pixel of another format."""

MEMORY_LIMIT = 190 << 20
"""Bytes of address space for one picture, added to what the program uses at its start."""


class Limits(NamedTuple):
    """The limits for decoding one picture.

    Attributes:
        pixels: maximum number of pixels.
        soft_seconds: maximum processor time, checked while Python code runs; 0 for no limit. If a
            picture takes longer, its decoding is stopped.
        hard_seconds: maximum processor time in user mode, checked by the operating system. If a
            picture takes longer, the program is killed.
    """

    pixels: int
    soft_seconds: float
    hard_seconds: float


# The hard limits are a little lower than the decoder's limits of wall time. If a picture exceeds
# only the wall time, then the machine was busy or the program was paused: the picture may be good.
FULL_LIMITS = Limits(MAX_PIXELS, 0, 1.3)
QUICK_LIMITS = Limits(4_000_000, 0.1, 0.9)

REDUCED_SIDE = 256
"""A JPEG is decoded at a reduced size whose short side has at least this many pixels."""

PngImagePlugin.MAX_TEXT_MEMORY = 8 << 20
# With one thread per core, the threads of a large machine would use up the address space.
AvifImagePlugin.DEFAULT_MAX_THREADS = 1

_JPEG_START, _SCAN_MARKER = b"\xff\xd8\xff", b"\xff\xda"

_UPRIGHT_BY_ORIENTATION = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# Orientations from 5 to 8 swap the width and the height.
_FIRST_SWAPPED = 5


class _TooLargeError(Exception):
    pass


def main() -> None:
    """Answer pictures until stdin ends. The parent process replaces a program that ends earlier."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform != "win32":
        signal.signal(signal.SIGPROF, _raise_timeout)
    limits = QUICK_LIMITS if QUICK_ONLY in sys.argv else FULL_LIMITS
    _limit_memory()
    requests, replies = sys.stdin.buffer, sys.stdout.buffer
    replies.write(READY)
    replies.flush()
    while header := requests.read(REQUEST.size):
        data = requests.read(*REQUEST.unpack(header))
        with _hard_limit(limits.hard_seconds):
            info = info_of(data, limits)
        replies.write(reply_of(info))
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
    # The limit also applies to pictures inside of icons. Pillow refuses only pictures with more
    # than twice this number of pixels.
    Image.MAX_IMAGE_PIXELS = limits.pixels // 2
    try:
        with _soft_limit(limits.soft_seconds):
            return _decode(data)
    except (Image.DecompressionBombError, TimeoutError):
        return None
    except _TooLargeError:
        return undecodable(DecodeError.TOO_LARGE)
    except MemoryError:
        return undecodable(DecodeError.TOO_MUCH_MEMORY)
    except Exception:  # A plugin of Pillow may raise almost any exception.
        return undecodable(DecodeError.BROKEN if _is_decodable(data) else DecodeError.FORMAT)


def _is_decodable(data: bytes) -> bool:
    """Return whether the bytes begin like a picture in one of `FORMATS`."""
    accepts = (Image.OPEN[name][1] for name in FORMATS)
    return any(accept is not None and accept(data[:16]) for accept in accepts)


def _limit_memory() -> None:
    """Limit the memory of this program, on systems that say how much it uses (Linux)."""
    statm = Path("/proc/self/statm")
    if statm.exists():
        import resource  # noqa: PLC0415

        limit = int(statm.read_text().split()[0]) * resource.getpagesize() + MEMORY_LIMIT
        with suppress(ValueError, OSError):  # Fails if the limit is already lower.
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


@contextmanager
def _soft_limit(seconds: float) -> Iterator[None]:
    """Raise TimeoutError if the block takes longer (not on Windows)."""
    if not seconds or sys.platform == "win32":
        yield
        return
    # The signal is repeated, because a plugin may catch the first error and continue.
    signal.setitimer(signal.ITIMER_PROF, seconds, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


@contextmanager
def _hard_limit(seconds: float) -> Iterator[None]:
    """Let the system kill the program by SIGVTALRM if the block takes longer (not on Windows)."""
    if sys.platform == "win32":
        yield
        return
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)


def _raise_timeout(_signal: int, _frame: object) -> None:
    if signal.getitimer(signal.ITIMER_PROF) != (0, 0):  # Else the signal came too late.
        raise TimeoutError


def _decode(data: bytes) -> ImageInfo:
    image = _open(data)
    width, height = _load(image)
    orientation = _orientation(image)
    if orientation >= _FIRST_SWAPPED:
        width, height = height, width
    if orientation in _UPRIGHT_BY_ORIENTATION:
        return ImageInfo(
            width, height, phash(image.transpose(_UPRIGHT_BY_ORIENTATION[orientation]))
        )
    return ImageInfo(width, height, phash(image))


def _open(data: bytes) -> ImageFile.ImageFile:
    if not data.startswith(_JPEG_START):
        return Image.open(BytesIO(data), formats=FORMATS)
    # Not `Image.open`, which would refuse a large JPEG although it is decoded at a reduced size.
    image = JpegImagePlugin.JpegImageFile(BytesIO(data))
    scans = data.count(_SCAN_MARKER)
    if scans > MAX_SCANS or math.prod(image.size) > MAX_JPEG_PIXELS:
        raise _TooLargeError
    _check_pixels(math.prod(image.size) * scans // SCANS_PER_PIXEL)
    return image


def _check_pixels(pixels: int) -> None:
    if pixels > 2 * (Image.MAX_IMAGE_PIXELS or 0):
        raise Image.DecompressionBombError


def _load(image: Image.Image) -> tuple[int, int]:
    """Decode, at a reduced size if the format allows it, and return the full size."""
    size = image.size
    is_large = min(size) >= 2 * REDUCED_SIDE
    is_reduced = is_large and image.draft("L", (REDUCED_SIDE, REDUCED_SIDE)) is not None
    _check_pixels(math.prod(image.size))
    image.load()
    # After loading: the size in the directory of an ICO may be wrong.
    return size if is_reduced else image.size


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 to 8 (TIFF 6.0, section 8); 1 if it is missing or broken.

    Call it after loading. Before, PNGs do not have their orientation yet; loading also turns TIFFs
    and removes their orientation.
    """
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # Broken EXIF data do not make the pixels useless.
        return 1
    return orientation if orientation in _UPRIGHT_BY_ORIENTATION else 1


if __name__ == "__main__":
    main()
