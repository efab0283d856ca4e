"""Make a small WebP of a decoded picture; this runs in the child program."""

from io import BytesIO
from typing import cast

from PIL import Image

THUMBNAIL_SIDE = 320
"""The longer side of a thumbnail in pixels: twice that of a picture in a grid, for dense screens.
Smaller pictures keep their size."""

MAX_THUMBNAIL_BYTES = 15_000
"""Maximum size of a thumbnail."""

_QUALITIES = (70, 50, 30, 10)
# Takes less than half the time of the default, for files that are a few per cent larger.
_METHOD = 1


def thumbnail_size(size: tuple[int, int]) -> tuple[int, int]:
    """Return the width and the height of the thumbnail of a picture of a size."""
    scale = min(THUMBNAIL_SIDE / max(size), 1)
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def displayable(image: Image.Image) -> Image.Image:
    """Return a picture with 8 bits a channel, in the mode RGB, or RGBa if it is transparent."""
    if image.mode.startswith(("I", "F")):
        return _in_8_bits(image).convert("RGB")
    if not image.has_transparency_data:
        return image if image.mode == "RGB" else image.convert("RGB")
    # With the colours of transparent pixels multiplied by zero, so that they do not bleed.
    return (image if image.mode == "RGBA" else image.convert("RGBA")).convert("RGBa")


def reduced(image: Image.Image) -> Image.Image:
    """Return a picture whose longer side has at most `THUMBNAIL_SIDE` pixels."""
    size = thumbnail_size(image.size)
    if size != image.size:
        image = image.resize(size, Image.Resampling.LANCZOS, reducing_gap=1.0)
    return image.convert("RGBA") if image.mode == "RGBa" else image


def encoded(image: Image.Image) -> bytes:
    """Encode a thumbnail in WebP with at most `MAX_THUMBNAIL_BYTES`.

    A picture that is too large even at the lowest quality, such as noise, becomes smaller.
    """
    while True:
        for quality in _QUALITIES:
            file = BytesIO()
            image.save(file, "WEBP", quality=quality, alpha_quality=quality, method=_METHOD)
            if len(file.getvalue()) <= MAX_THUMBNAIL_BYTES:
                return file.getvalue()
        image = image.resize((max(1, image.width // 2), max(1, image.height // 2)))


def _in_8_bits(image: Image.Image) -> Image.Image:
    """Return a grey picture of more than 8 bits, from its darkest to its brightest value."""
    values = image.convert("F")
    lowest, highest = cast("tuple[float, float]", values.getextrema())
    scale = 255 / (highest - lowest) if highest > lowest else 0
    if image.mode.startswith("I;16"):
        lowest, scale = 0, 255 / 65535
    return values.point(lambda value: value * scale - lowest * scale).convert("L")
