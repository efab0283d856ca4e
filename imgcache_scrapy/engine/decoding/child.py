"""The child program of `decoder`: answers each picture on stdin with its size and its pHash."""

import math
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

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

from imgcache_scrapy.engine.decoding.decoder import (
    COSTLY,
    NO_FACTS,
    READY,
    REPLY,
    REQUEST,
    SMALL_ONLY,
    Facts,
)

FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "AVIF", "BMP", "TIFF", "ICO")
"""Pillow's names of the formats that are decoded; "JPEG" includes MPO."""

MAX_PIXELS = 25_000_000
"""Pictures with more of them are not decoded, but for JPEGs, of which most are skipped."""

MAX_JPEG_PIXELS = 100_000_000
"""JPEGs with more of them are not decoded."""

MAX_SCANS = 100
"""JPEGs with more of them are not decoded."""

SCANS_PER_PIXEL = 16
"""How often a scan of a JPEG may pass a pixel at the cost of decoding one of another format."""

MEMORY_LIMIT = 190 << 20
"""Bytes of address space that pictures may cost, beyond what the program has before the first."""


class Limits(NamedTuple):
    """What one picture may cost.

    Attributes:
        pixels: how many are decoded.
        seconds: of processor time, checked wherever Python runs; 0 for no limit.
    """

    pixels: int
    seconds: float


LARGE = Limits(MAX_PIXELS, 0)
SMALL = Limits(4_000_000, 0.1)

REDUCED_SIDE = 256
"""Pixels that the short side of a JPEG keeps at least when it is decoded at a reduced scale."""

PngImagePlugin.MAX_TEXT_MEMORY = 8 << 20
# Otherwise each core gets one, and a large machine has no address space left for the picture.
AvifImagePlugin.DEFAULT_MAX_THREADS = 1

_Floats = npt.NDArray[np.float64]

_JPEG, _SCAN = b"\xff\xd8\xff", b"\xff\xda"

_SIDE, _KEPT = 32, 8
_EIGHTH = math.pi / 4
_COS = np.array([math.cos(_EIGHTH * k / 16) for k in range(_KEPT)])
# The sine, by the addition theorem because that is how pocketfft comes by it, down to the last bit.
_SIN = np.array(
    [
        math.sin(_EIGHTH) * math.cos(_EIGHTH * (16 - k) / 16)
        - math.cos(_EIGHTH) * math.sin(_EIGHTH * (16 - k) / 16)
        for k in range(_KEPT)
    ]
)

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


def main() -> None:
    """Answer pictures until stdin ends. What ends the program earlier, the parent copes with."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform != "win32":
        signal.signal(signal.SIGPROF, _give_up)
    limits = SMALL if SMALL_ONLY in sys.argv else LARGE
    _limit_memory()
    requests, replies = sys.stdin.buffer, sys.stdout.buffer
    replies.write(READY)
    replies.flush()
    while header := requests.read(REQUEST.size):
        facts = facts_of(requests.read(*REQUEST.unpack(header)), limits)
        replies.write(REPLY.pack(*(fact or 0 for fact in facts)))
        replies.flush()


def facts_of(data: bytes, limits: Limits = LARGE) -> Facts:
    """Decode the first frame of a picture.

    Args:
        data: the whole picture.
        limits: what it may cost.

    Returns:
        Its size as displayed and its perceptual hash; `COSTLY` when it costs more; `NO_FACTS` when
        it is of a format not in `FORMATS`, is broken or exceeds a limit of this module.
    """
    # This holds for what is inside of icons, too. Pillow only warns up to twice the number.
    Image.MAX_IMAGE_PIXELS = limits.pixels // 2
    try:
        with _processor_time(limits.seconds):
            return _decode(data)
    except (Image.DecompressionBombError, TimeoutError):
        return COSTLY
    except Exception:  # There is hardly one that no plugin of Pillow raises.
        return NO_FACTS


def phash(image: Image.Image) -> int:
    """Compute the perceptual hash of an upright picture.

    This is the pHash of https://www.hackerfactor.com/blog/index.php?/archives/432-Looks-Like-It.html
    as ImageHash computes it, equal in every bit: scaled to 32x32 grey pixels, DCT-II, and of the
    8x8 lowest frequencies those that exceed their median. Transparent pixels count as white.

    Args:
        image: of any size and mode.

    Returns:
        64 bits, unsigned; the most significant is the lowest frequency, then row by row.
    """
    grey = _on_white(image).convert("L").resize((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    low = _low_dct(_low_dct(np.asarray(grey, np.float64).T).T)
    return int.from_bytes(np.packbits(low > np.median(low)).tobytes(), "big")


def _limit_memory() -> None:
    """Limit the memory where the system tells how much there is (Linux)."""
    statm = Path("/proc/self/statm")
    if statm.exists():
        import resource  # noqa: PLC0415

        limit = int(statm.read_text().split()[0]) * resource.getpagesize() + MEMORY_LIMIT
        with suppress(ValueError, OSError):  # Refused where a tighter limit holds.
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


@contextmanager
def _processor_time(seconds: float) -> Iterator[None]:
    """Raise TimeoutError when this takes longer, where the system can tell (not on Windows)."""
    if not seconds or sys.platform == "win32":
        yield
        return
    # Again and again, lest a plugin take the error for one of the picture's.
    signal.setitimer(signal.ITIMER_PROF, seconds, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _give_up(_signal: int, _frame: object) -> None:
    if signal.getitimer(signal.ITIMER_PROF) != (0, 0):  # Otherwise it is done.
        raise TimeoutError


def _decode(data: bytes) -> Facts:
    image = _opened(data)
    width, height = _load(image)
    orientation = _orientation(image)
    if orientation >= _FIRST_SIDEWAYS:
        width, height = height, width
    if orientation in _UPRIGHT:
        return Facts(width, height, phash(image.transpose(_UPRIGHT[orientation])))
    return Facts(width, height, phash(image))


def _opened(data: bytes) -> ImageFile.ImageFile:
    if not data.startswith(_JPEG):
        return Image.open(BytesIO(data), formats=FORMATS)
    # Not by `open`, which would refuse it by its full size.
    image = JpegImagePlugin.JpegImageFile(BytesIO(data))
    scans = data.count(_SCAN)
    if scans > MAX_SCANS or math.prod(image.size) > MAX_JPEG_PIXELS:
        raise ValueError
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


def _on_white(image: Image.Image) -> Image.Image:
    if not image.has_transparency_data:
        return image
    picture = image if image.mode == "RGBA" else image.convert("RGBA")
    white = Image.new("RGB", image.size, "white")
    white.paste(picture, mask=picture)
    return white


def _low_dct(rows: _Floats) -> _Floats:
    """Transform each row: the lowest coefficients of its unnormalised DCT-II.

    This repeats pocketfft's way from a real FFT of the same length to the DCT (`T_dcst23` in
    https://github.com/mreineck/pocketfft), rounding by rounding: SciPy's, and so ImageHash's. In
    flat or symmetric pictures most coefficients are zero or equal but for rounding, which decides
    over the bits of the hash.

    Args:
        rows: n x 32.

    Returns:
        n x 8: 2 * sum(x[i] * cos(pi * k * (2 * i + 1) / 64)) for each frequency k.
    """
    even = np.column_stack((rows[:, ::2], rows[:, -1]))
    odd = np.column_stack((rows[:, 0], rows[:, 1::2]))
    wave = np.fft.irfft((even + odd) + 1j * (even - odd), _SIDE, norm="forward")
    front, back = wave[:, :_KEPT], wave[:, -np.arange(_KEPT)]
    return ((_COS * back + _SIN * front) + (_COS * front - _SIN * back)) / 2


if __name__ == "__main__":
    main()
