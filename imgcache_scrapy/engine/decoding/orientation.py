"""The EXIF orientation of a picture: how its pixels must be turned."""

from PIL import ExifTags, Image

_UPRIGHT_BY_ORIENTATION = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

FIRST_SWAPPED = 5
"""Orientations from this one on swap the width and the height."""


def orientation_of(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 to 8 (TIFF 6.0, section 8); 1 if it is missing or broken.

    Call it after loading. Before, PNGs do not have their orientation yet; loading also turns TIFFs
    and removes their orientation.
    """
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # Broken EXIF data do not make the pixels useless.
        return 1
    return orientation if orientation in _UPRIGHT_BY_ORIENTATION else 1


def upright(image: Image.Image, orientation: int) -> Image.Image:
    """Return a picture of this orientation as it is displayed."""
    turn = _UPRIGHT_BY_ORIENTATION.get(orientation)
    return image if turn is None else image.transpose(turn)
