"""The perceptual hash of a picture: ImageHash's pHash, equal in every bit."""

import math

import numpy as np
import numpy.typing as npt
from PIL import Image

_Floats = npt.NDArray[np.float64]

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
