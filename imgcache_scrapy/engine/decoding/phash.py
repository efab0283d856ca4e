"""Compute the perceptual hash of a picture: pHash, as ImageHash does."""

import math

import numpy as np
import numpy.typing as npt
from PIL import Image

_Floats = npt.NDArray[np.float64]

_SIDE, _KEPT = 32, 8
# Two steps with this gap keep as many bits as one step; with 3, smooth pictures lose more.
_REDUCING_GAP = 4.0
_EIGHTH = math.pi / 4
_COS = np.array([math.cos(_EIGHTH * k / 16) for k in range(_KEPT)])
# The sine by the addition theorem, as pocketfft computes it: every bit must be the same.
_SIN = np.array(
    [
        math.sin(_EIGHTH) * math.cos(_EIGHTH * (16 - k) / 16)
        - math.cos(_EIGHTH) * math.sin(_EIGHTH * (16 - k) / 16)
        for k in range(_KEPT)
    ]
)


def phash(image: Image.Image, *, is_reduced: bool = False) -> int:
    """Compute the perceptual hash of an upright picture.

    This is the pHash of https://www.hackerfactor.com/blog/index.php?/archives/432-Looks-Like-It.html
    as ImageHash computes it, equal in every bit if the picture was decoded in full. The picture is
    scaled to 32x32 grey pixels and transformed by DCT-II. Each of the 8x8 lowest frequencies gives
    one bit: 1 if it exceeds their median. Transparent pixels count as white.

    Args:
        image: the picture, of any size and mode.
        is_reduced: whether it was decoded at a reduced size. Then its hash is not exact, and it is
            scaled in two steps, which takes a third of the time.

    Returns:
        64 bits, unsigned, row by row; the most significant bit is the lowest frequency.
    """
    gap = _REDUCING_GAP if is_reduced else None
    grey = _on_white(image).convert("L")
    grey = grey.resize((_SIDE, _SIDE), Image.Resampling.LANCZOS, reducing_gap=gap)
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
    """Return the lowest coefficients of the unnormalised DCT-II of each row.

    ImageHash uses SciPy, which uses pocketfft. This function computes the DCT from a real FFT as
    pocketfft does (`T_dcst23` in https://github.com/mreineck/pocketfft), with the same rounding.
    The rounding matters: in flat or symmetric pictures, most coefficients differ only by rounding
    errors, and these decide the bits of the hash.

    Args:
        rows: n x 32 numbers.

    Returns:
        n x 8 numbers: 2 * sum(x[i] * cos(pi * k * (2 * i + 1) / 64)) for each frequency k.
    """
    even = np.column_stack((rows[:, ::2], rows[:, -1]))
    odd = np.column_stack((rows[:, 0], rows[:, 1::2]))
    wave = np.fft.irfft((even + odd) + 1j * (even - odd), _SIDE, norm="forward")
    front, back = wave[:, :_KEPT], wave[:, -np.arange(_KEPT)]
    return ((_COS * back + _SIN * front) + (_COS * front - _SIN * back)) / 2
