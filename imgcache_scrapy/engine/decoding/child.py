"""The child program: answers each picture on stdin with its size and its perceptual hash."""

import math
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

# Those unused here register their formats; Pillow itself would import all its plugins for that.
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
    READY,
    REQUEST,
    SMALL_ONLY,
    DecodeError,
    ImageInfo,
    reply_of,
    undecodable,
)
from imgcache_scrapy.engine.decoding.phash import phash

FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "AVIF", "BMP", "TIFF", "ICO")
"""Pillow's names of the formats that are decoded; "JPEG" includes MPO."""

MAX_PIXELS = 25_000_000
"""Pictures with more pixels are not decoded, except JPEGs, most of whose pixels are skipped."""

MAX_JPEG_PIXELS = 100_000_000
"""JPEGs with more pixels are not decoded."""

MAX_SCANS = 100
"""JPEGs with more scans are not decoded."""

SCANS_PER_PIXEL = 16
"""How many scans of a pixel of a JPEG cost as much as decoding one of another format."""

MEMORY_LIMIT = 190 << 20
"""Bytes of address space for a picture, beyond what the program has before the first one."""


class Limits(NamedTuple):
    """What one picture may cost.

    Attributes:
        pixels: maximum number that is decoded.
        soft_seconds: of processor time, checked wherever Python runs; 0 for no limit. A picture
            that takes longer is refused.
        hard_seconds: of processor time in user mode, checked by the system. A picture that takes
            longer ends the program.
    """

    pixels: int
    soft_seconds: float
    hard_seconds: float


# The hard limits are a little less than the decoder's time limits. Where the time limit comes
# first, the machine was busy or the program was stopped, and the picture is not to blame.
LARGE = Limits(MAX_PIXELS, 0, 1.3)
SMALL = Limits(4_000_000, 0.1, 0.9)

REDUCED_SIDE = 256
"""Minimum number of pixels of the short side of a JPEG that is decoded at a reduced scale."""

PngImagePlugin.MAX_TEXT_MEMORY = 8 << 20
# One thread per core would leave no address space for the picture on a large machine.
AvifImagePlugin.DEFAULT_MAX_THREADS = 1

_JPEG, _SCAN = b"\xff\xd8\xff", b"\xff\xda"

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_FIRST_SIDEWAYS = 5


class _TooLargeError(Exception):
    pass


def main() -> None:
    """Answer pictures until stdin ends. The parent copes with a program that ends earlier."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform != "win32":
        signal.signal(signal.SIGPROF, _give_up)
    limits = SMALL if SMALL_ONLY in sys.argv else LARGE
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


def info_of(data: bytes, limits: Limits = LARGE) -> ImageInfo | None:
    """Decode the first frame of a picture.

    Args:
        data: the whole picture.
        limits: what it may cost.

    Returns:
        Its size as displayed and its perceptual hash, or the reason why there are none. None when
        it costs more than `limits`, so that another child may decode it.
    """
    # This holds for what is inside of icons, too. Pillow only warns up to twice the number.
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
    """Return whether the bytes begin as those of a format in `FORMATS`."""
    accepts = (Image.OPEN[name][1] for name in FORMATS)
    return any(accept is not None and accept(data[:16]) for accept in accepts)


def _limit_memory() -> None:
    """Limit the memory where the system tells how much there is (Linux)."""
    statm = Path("/proc/self/statm")
    if statm.exists():
        import resource  # noqa: PLC0415

        limit = int(statm.read_text().split()[0]) * resource.getpagesize() + MEMORY_LIMIT
        with suppress(ValueError, OSError):  # Refused where a tighter limit holds.
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


@contextmanager
def _soft_limit(seconds: float) -> Iterator[None]:
    """Raise TimeoutError when this takes longer, where the system can tell (not on Windows)."""
    if not seconds or sys.platform == "win32":
        yield
        return
    # Repeated, since a plugin may take the error for one of the picture's and go on.
    signal.setitimer(signal.ITIMER_PROF, seconds, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


@contextmanager
def _hard_limit(seconds: float) -> Iterator[None]:
    """Let the system end the program by SIGVTALRM when this takes longer (not on Windows)."""
    if sys.platform == "win32":
        yield
        return
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)


def _give_up(_signal: int, _frame: object) -> None:
    if signal.getitimer(signal.ITIMER_PROF) != (0, 0):  # Otherwise it is done.
        raise TimeoutError


def _decode(data: bytes) -> ImageInfo:
    image = _opened(data)
    width, height = _load(image)
    orientation = _orientation(image)
    if orientation >= _FIRST_SIDEWAYS:
        width, height = height, width
    if orientation in _UPRIGHT:
        return ImageInfo(width, height, phash(image.transpose(_UPRIGHT[orientation])))
    return ImageInfo(width, height, phash(image))


def _opened(data: bytes) -> ImageFile.ImageFile:
    if not data.startswith(_JPEG):
        return Image.open(BytesIO(data), formats=FORMATS)
    # Not by `open`, which would refuse it for its full size.
    image = JpegImagePlugin.JpegImageFile(BytesIO(data))
    scans = data.count(_SCAN)
    if scans > MAX_SCANS or math.prod(image.size) > MAX_JPEG_PIXELS:
        raise _TooLargeError
    _refuse_beyond_limit(math.prod(image.size) * scans // SCANS_PER_PIXEL)
    return image


def _refuse_beyond_limit(pixels: int) -> None:
    if pixels > 2 * (Image.MAX_IMAGE_PIXELS or 0):
        raise Image.DecompressionBombError


def _load(image: Image.Image) -> tuple[int, int]:
    """Decode, at a reduced scale where the format allows that, and tell the full size."""
    size = image.size
    is_large = min(size) >= 2 * REDUCED_SIDE
    is_reduced = is_large and image.draft("L", (REDUCED_SIDE, REDUCED_SIDE)) is not None
    _refuse_beyond_limit(math.prod(image.size))
    image.load()
    # The directory of an ICO may be wrong about the size, and its pixels right.
    return size if is_reduced else image.size


def _orientation(image: Image.Image) -> int:
    """Read the EXIF orientation (TIFF 6.0, 8: 1 to 8); 1 also when there is none or it is broken.

    To be called after loading: only then do PNGs have theirs, and TIFFs, already turned, no longer.
    """
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # The pixels of a picture with broken EXIF data are as good as any.
        return 1
    return orientation if orientation in _UPRIGHT else 1


if __name__ == "__main__":
    main()
