"""The program that makes thumbnails: what they look like, whatever the picture is."""

from io import BytesIO

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageDraw

from imgcache_scrapy.engine.decoding.child import FORMATS, with_thumbnail
from imgcache_scrapy.engine.decoding.messages import DecodeError
from imgcache_scrapy.engine.decoding.shrinking import MAX_THUMBNAIL_BYTES, THUMBNAIL_SIDE
from tests.support import bombs
from tests.support.pictures import cursor, encoded, noise

KINDS = {
    "JPEG": "RGB",
    "PNG": "RGB",
    "GIF": "P",
    "WEBP": "RGBA",
    "AVIF": "RGB",
    "BMP": "RGB",
    "TIFF": "RGB",
    "ICO": "RGBA",
    "JPEG2000": "RGB",
}


def thumbnail(data: bytes) -> Image.Image:
    """Make a thumbnail and open it."""
    info = with_thumbnail(data)
    assert info is not None
    image = Image.open(BytesIO(info.thumbnail))
    assert image.format == "WEBP"
    assert len(info.thumbnail) <= MAX_THUMBNAIL_BYTES
    image.load()
    return image


def scene(width: int, height: int) -> Image.Image:
    """Draw a red quarter at the top left on blue, so that every orientation looks different."""
    image = Image.new("RGB", (width, height), "blue")
    ImageDraw.Draw(image).rectangle((0, 0, width // 2, height // 2), "red")
    return image


def is_red(image: Image.Image, x: float, y: float) -> bool:
    """Return whether the pixel at a part of the width and the height is red."""
    red, _, blue, *_ = image.convert("RGB").getpixel((int(image.width * x), int(image.height * y)))
    return red > blue


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_each_format_has_thumbnails(kind: str) -> None:
    """A picture of every decoded format gives a small WebP of its shape."""
    size = (256, 128) if kind == "ICO" else (900, 450)
    found = thumbnail(encoded(scene(*size).convert(KINDS[kind]), kind))
    assert found.size == ((128, 64) if kind == "ICO" else (THUMBNAIL_SIDE, THUMBNAIL_SIDE // 2))
    assert is_red(found, 0.2, 0.2)
    assert not is_red(found, 0.8, 0.8)
    assert set(KINDS) | {"CUR"} == set(FORMATS)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation(orientation: int) -> None:
    """A thumbnail is upright, as browsers show the picture."""
    upright = scene(900, 600)
    turned = {
        1: upright,
        2: upright.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        3: upright.transpose(Image.Transpose.ROTATE_180),
        4: upright.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
        5: upright.transpose(Image.Transpose.TRANSPOSE),
        6: upright.transpose(Image.Transpose.ROTATE_90),
        7: upright.transpose(Image.Transpose.TRANSVERSE),
        8: upright.transpose(Image.Transpose.ROTATE_270),
    }[orientation]
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    found = thumbnail(encoded(turned, "JPEG", exif=exif, quality=90))
    assert found.size == (320, 213)
    corners = [(0.2, 0.2), (0.8, 0.2), (0.2, 0.8), (0.8, 0.8)]
    assert [is_red(found, *corner) for corner in corners] == [True, False, False, False]


def test_transparency_is_kept() -> None:
    """The transparent parts of a picture are transparent, and do not colour the others."""
    image = Image.new("RGBA", (800, 800), (0, 255, 0, 0))
    ImageDraw.Draw(image).rectangle((0, 0, 399, 799), (255, 0, 0, 255))
    found = thumbnail(encoded(image, "PNG"))
    assert found.mode == "RGBA"
    assert found.getpixel((300, 100))[3] == 0
    assert found.getpixel((100, 100))[3] == 255
    assert found.getpixel((158, 100))[1] < 60


def test_animations_show_their_first_frame() -> None:
    """Of an animation, the first frame is shown, and nothing moves."""
    frames = [Image.new("RGB", (400, 400), color) for color in ("red", "blue", "green")]
    for kind in ("GIF", "WEBP", "PNG"):
        data = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
        found = thumbnail(data)
        assert getattr(found, "n_frames", 1) == 1
        assert is_red(found, 0.5, 0.5)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "I", "F"])
def test_modes_and_small_pictures(mode: str) -> None:
    """A picture of any mode has a thumbnail; a smaller picture keeps its size."""
    kind = "JPEG" if mode == "CMYK" else "PNG" if mode in {"1", "L", "LA", "P"} else "TIFF"
    image = Image.linear_gradient("L").resize((60, 40))
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image).astype(np.uint16) * 257)
    elif mode in {"I", "F"}:
        image = image.convert(mode).point(lambda value: value * 100)
    else:
        image = image.convert("RGB").convert(mode) if mode == "CMYK" else image.convert(mode)
    found = thumbnail(encoded(image, kind))
    assert found.size == (60, 40)
    bright = np.asarray(found.convert("L"), float)
    assert bright[-5:].mean() - bright[:5].mean() > 150


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_noise_is_small(mode: str) -> None:
    """Even noise, which cannot be compressed, gives a thumbnail within the bound."""
    assert max(thumbnail(encoded(noise(900, 900, mode), "PNG")).size) <= THUMBNAIL_SIDE


@pytest.mark.parametrize(
    ("size", "expected"), [((3000, 1), (320, 1)), ((1, 9000), (1, 320)), ((1, 1), (1, 1))]
)
def test_narrow_pictures(size: tuple[int, int], expected: tuple[int, int]) -> None:
    """A picture that is far wider than high has a thumbnail of at least one pixel."""
    assert thumbnail(encoded(Image.new("RGB", size), "PNG")).size == expected


def test_a_cursor_has_a_thumbnail() -> None:
    """A cursor is shown like an icon."""
    assert thumbnail(cursor(noise(32, 32, "RGBA"))).size == (32, 32)


def test_the_picture_is_not_in_its_thumbnail() -> None:
    """A thumbnail has neither the metadata of its picture nor what was appended to it."""
    exif = Image.Exif()
    exif[ExifTags.Base.Artist] = "canary-in-exif"
    data = encoded(noise(20, 20), "JPEG", exif=exif, comment=b"canary-in-comment")
    info = with_thumbnail(data + b"<script>canary-behind</script>")
    assert info is not None
    assert info.thumbnail
    assert b"canary" not in info.thumbnail


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", DecodeError.FORMAT),
        (encoded(noise(64, 64), "PNG")[:2000], DecodeError.BROKEN),
        (bombs.scans(64, 200), DecodeError.TOO_LARGE),
    ],
)
def test_hostile_pictures_have_none(data: bytes, error: DecodeError) -> None:
    """A picture that cannot or may not be decoded gives the same reason as for its size."""
    info = with_thumbnail(data)
    assert info is not None
    assert (info.thumbnail, info.decode_error) == (b"", error)
