"""The program that decodes: what it says about pictures, compared with ImageHash and Pillow."""

import platform
import struct
from io import BytesIO
from random import Random

import imagehash
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import ExifTags, Image, ImageDraw, ImageOps

from imgcache_scrapy.engine.decoding.child import (
    MAX_SCANS,
    QUICK_LIMITS,
    REDUCED_SIDE,
    _load,
    info_of,
)
from imgcache_scrapy.engine.decoding.messages import DecodeError, ImageInfo, undecodable
from imgcache_scrapy.engine.decoding.phash import phash
from tests.support.pictures import cursor, encoded, noise

LOSSLESS = {"PNG": {}, "TIFF": {}, "WEBP": {"lossless": True}}


def photo(width: int, height: int, seed: int = 1) -> Image.Image:
    """A picture with the spectrum of photographs: large shapes on a slope, and a little noise."""
    random = Random(seed)
    image = noise(6, 6, seed=seed).resize((width, height), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(image)
    for _ in range(12):
        x, y = random.randrange(width), random.randrange(height)
        color = tuple(random.randbytes(3))
        draw.ellipse((x, y, x + random.randrange(width), y + random.randrange(height)), color)
    return Image.blend(image, noise(width, height, seed=seed), 0.1)


def reference(image: Image.Image) -> int:
    return int(str(imagehash.phash(image)), 16)


def distance(one: int | None, other: int | None) -> int:
    assert one is not None
    assert other is not None
    return (one ^ other).bit_count()


def on_white(image: Image.Image) -> Image.Image:
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image.convert("RGBA"))


def degenerate() -> dict[str, Image.Image]:
    """Pictures most of whose frequencies are zero or equal but for rounding errors."""
    y, x = np.indices((32, 32))
    masks = {
        "horizontal gradient": x * 8,
        "vertical gradient": y * 8,
        "diagonal gradient": (x + y) * 4,
        "disc": ((x - 15.5) ** 2 + (y - 15.5) ** 2 < 100) * 255,
        "single pixel": ((x == 20) & (y == 11)) * 255,
        "rectangle": ((x > 4) & (x < 20) & (y > 9) & (y < 30)) * 200,
    }
    for n in (1, 2, 3, 4, 9, 13, 17, 25, 31):
        masks[f"stripes {n}"] = (x // n % 2) * 255
        masks[f"checkerboard {n}"] = ((x // n + y // n) % 2) * 255
        masks[f"corner {n}"] = ((x < n) & (y < n)) * 255
        masks[f"triangle {n}"] = (x + y < n) * 255
        masks[f"cross {n}"] = ((x == n) | (y == n)) * 255
        masks[f"diagonal {n}"] = (x + y == n) * 255
    images = {name: Image.fromarray(mask.astype(np.uint8)) for name, mask in masks.items()}
    images |= {f"solid {n}": Image.new("L", (64, 48), n) for n in (0, 1, 77, 254, 255)}
    return images | {f"tiny {w}x{h}": noise(w, h) for w, h in ((1, 1), (2, 1), (3, 2), (4, 4))}


@given(
    st.integers(1, 90),
    st.integers(1, 90),
    st.sampled_from(["1", "L", "P", "RGB", "CMYK", "YCbCr", "I;16"]),
    st.integers(0, 1 << 32),
)
def test_noise_hashes_as_with_imagehash(width: int, height: int, mode: str, seed: int) -> None:
    """Noise of any size and mode has ImageHash's hash, bit for bit."""
    image = noise(width, height, mode if mode in {"CMYK", "I;16"} else "RGB", seed).convert(mode)
    assert phash(image) == reference(image)


@pytest.mark.skipif(
    platform.machine() not in {"x86_64", "AMD64"},
    reason="SciPy may be compiled to fuse multiplications with additions",
)
@pytest.mark.parametrize("name", degenerate())
def test_degenerate_pictures_hash_as_with_imagehash(name: str) -> None:
    """Where only rounding errors tell coefficients apart, they are ImageHash's rounding errors."""
    image = degenerate()[name]
    assert phash(image) == reference(image)


@pytest.mark.parametrize("side", [REDUCED_SIDE - 1, 2 * REDUCED_SIDE - 1])
def test_small_jpegs_are_decoded_in_full(side: int) -> None:
    """A JPEG that cannot be reduced has exactly ImageHash's hash."""
    data = encoded(photo(side + 100, side), "JPEG")
    assert info_of(data) == ImageInfo(side + 100, side, reference(Image.open(BytesIO(data))))


@pytest.mark.parametrize(
    ("short_side", "decoded_side"), [(511, 511), (512, 256), (1023, 512), (1024, 256), (3000, 375)]
)
def test_jpegs_are_reduced_no_further_than_allowed(short_side: int, decoded_side: int) -> None:
    """A large JPEG is decoded at a half to an eighth, and in colors only if it is not reduced."""
    image = Image.open(BytesIO(encoded(Image.new("RGB", (short_side + 9, short_side)), "JPEG")))
    assert _load(image) == (short_side + 9, short_side)
    assert min(image.size) == decoded_side
    assert image.mode == ("RGB" if short_side == decoded_side else "L")


@pytest.mark.parametrize("seed", range(8))
def test_reduced_jpegs_keep_size_and_hash(seed: int) -> None:
    """A JPEG decoded at a reduced scale has its full size, and its hash but for two bits."""
    data = encoded(photo(700 + 300 * seed, 2300 - 200 * seed, seed), "JPEG", quality=85)
    width, height, found, *_ = info_of(data)
    assert (width, height) == (700 + 300 * seed, 2300 - 200 * seed)
    assert distance(found, reference(Image.open(BytesIO(data)))) <= 2


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("file_format", LOSSLESS)
def test_orientation_is_applied(file_format: str, orientation: int) -> None:
    """A picture stored turned or mirrored has the size and the hash of the upright one."""
    upright = photo(90, 60)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    inverse = {6: 8, 8: 6}.get(orientation, orientation)
    upright.getexif()[ExifTags.Base.Orientation] = inverse
    stored = ImageOps.exif_transpose(upright)
    assert (stored.width < stored.height) == (orientation >= 5)
    data = encoded(stored, file_format, exif=exif, **LOSSLESS[file_format])
    assert info_of(data) == ImageInfo(90, 60, reference(upright.convert("RGB")))


def test_orientation_of_a_reduced_jpeg() -> None:
    """Width and height of a turned JPEG swap at the full scale, though it is decoded at another."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    data = encoded(photo(1600, 1200), "JPEG", exif=exif)
    width, height, found, *_ = info_of(data)
    assert (width, height) == (1200, 1600)
    assert distance(found, reference(ImageOps.exif_transpose(Image.open(BytesIO(data))))) <= 2


@pytest.mark.parametrize("exif", [b"Exif\0\0garbage", b"Exif\0\0II*\0\xff\xff\xff\xff"])
def test_broken_exif_is_ignored(exif: bytes) -> None:
    """EXIF data that cannot be read cost nothing but the orientation."""
    data = encoded(photo(90, 60), "PNG", exif=exif)
    assert info_of(data) == ImageInfo(90, 60, reference(photo(90, 60)))


@pytest.mark.parametrize(
    ("image", "options"),
    [
        (noise(70, 50, "RGBA"), {}),
        (noise(70, 50, "LA"), {}),
        (noise(70, 50).quantize(8), {"transparency": 3}),
        (noise(70, 50).quantize(8), {"transparency": bytes(range(0, 256, 32))}),
        (photo(70, 50).convert("L"), {"transparency": 99}),
        (ImageOps.expand(Image.new("RGB", (9, 6), "red"), 3), {"transparency": (0, 0, 0)}),
    ],
    ids=["RGBA", "LA", "P, one color", "P, alpha palette", "L, one shade", "RGB, one color"],
)
def test_transparent_is_white(image: Image.Image, options: dict[str, object]) -> None:
    """Whatever way a PNG is transparent, it is hashed as seen on white."""
    data = encoded(image, "PNG", **options)
    seen = on_white(Image.open(BytesIO(data)))
    assert info_of(data).perceptual_hash == reference(seen)
    assert reference(seen) != reference(image.convert("RGB"))


@pytest.mark.parametrize(
    "file_format", ["JPEG", "PNG", "GIF", "WEBP", "AVIF", "BMP", "TIFF", "JPEG2000"]
)
def test_every_format_is_decoded(file_format: str) -> None:
    """Every format on the list is decoded, to the hash that ImageHash gives for the same file."""
    data = encoded(photo(200, 150), file_format)
    assert info_of(data) == ImageInfo(200, 150, reference(Image.open(BytesIO(data))))


def test_an_icon_is_decoded() -> None:
    """Of the pictures in an icon the largest counts."""
    data = encoded(photo(64, 64), "ICO", sizes=[(16, 16), (64, 64), (32, 32)])
    assert info_of(data) == ImageInfo(64, 64, reference(photo(64, 64)))


def test_a_cursor_is_decoded() -> None:
    """A cursor has the size and the hash of its picture."""
    data = cursor(photo(32, 32))
    assert info_of(data) == ImageInfo(32, 32, reference(Image.open(BytesIO(data))))


@pytest.mark.parametrize("mode", ["I", "I;16", "F"])
def test_values_that_do_not_fit_into_8_bits_have_no_hash(mode: str) -> None:
    """Pillow makes such pictures white or black, so a hash of that would be wrong."""
    image = Image.new(mode, (90, 60), 1000)
    data = encoded(image, "TIFF")
    assert info_of(data) == ImageInfo(90, 60, None)


@pytest.mark.parametrize("file_format", ["MPO", "GIF", "PNG", "WEBP", "AVIF", "TIFF"])
def test_only_the_first_frame_counts(file_format: str) -> None:
    """Of several frames or pages in one file the first is hashed."""
    options = {"quality": 95} if file_format in {"MPO", "AVIF"} else LOSSLESS.get(file_format, {})
    first, second = photo(96, 96, seed=1), photo(96, 96, seed=2)
    data = encoded(first, file_format, save_all=True, append_images=[second], **options)
    found = info_of(data)
    assert found[:2] == (96, 96)
    assert distance(found.perceptual_hash, reference(first)) <= 4
    assert distance(reference(first), reference(second)) > 10


def psd(width: int, height: int) -> bytes:
    header = struct.pack("!4sH6xHIIHH", b"8BPS", 1, 3, height, width, 8, 3)
    return header + bytes(4 + 4 + 4 + 2) + bytes(3 * width * height)


@pytest.mark.parametrize("file_format", ["PPM", "TGA", "PCX", "EPS", "SGI", "PSD"])
def test_other_formats_are_not_decoded(file_format: str) -> None:
    """What Pillow could open, but no browser would show, is left alone."""
    data = psd(64, 64) if file_format == "PSD" else encoded(photo(64, 64), file_format)
    assert Image.open(BytesIO(data)).size == (64, 64)
    assert info_of(data) == undecodable(DecodeError.FORMAT)


@pytest.mark.parametrize("data", [b"", b"no picture", b"<svg/>", b"\xff\xd8", bytes(1000)])
def test_what_is_no_picture_is_not_called_broken(data: bytes) -> None:
    """Bytes that begin like no format on the list are of another format."""
    assert info_of(data) == undecodable(DecodeError.FORMAT)


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "GIF", "WEBP", "AVIF", "BMP", "TIFF"])
def test_a_truncated_picture_is_broken(file_format: str) -> None:
    """Half a picture has no size and no hash, not even the size that its header tells."""
    data = encoded(photo(200, 150), file_format)
    assert info_of(data[: len(data) // 2]) == undecodable(DecodeError.BROKEN)


@pytest.mark.parametrize("beyond", [0, 1])
def test_jpegs_with_many_scans_are_not_decoded(beyond: int) -> None:
    """A JPEG is decoded up to the limit of its scans, and not beyond."""
    data = encoded(photo(64, 64), "JPEG", progressive=True)
    scans = data.count(b"\xff\xda")
    last_scan = data[data.rindex(b"\xff\xda") : -2]
    data = data[:-2] + last_scan * (MAX_SCANS - scans + beyond) + data[-2:]
    assert (info_of(data) == undecodable(DecodeError.TOO_LARGE)) == bool(beyond)


@pytest.mark.parametrize(
    ("size", "progressive", "is_decoded"),
    [
        ((10_000, 10_000), False, True),
        ((10_000, 10_001), False, False),
        ((60_000, 500), False, False),
        ((5_000, 5_000), True, True),
        ((7_000, 7_000), True, False),
    ],
    ids=["limit", "beyond", "beyond, not reducible", "ten scans", "ten scans, too large"],
)
def test_jpegs_cost_what_is_read_of_them(
    size: tuple[int, int], progressive: bool, is_decoded: bool
) -> None:
    """A large JPEG is decoded as long as it is reduced and few scans pass over it."""
    data = encoded(Image.new("RGB", size), "JPEG", progressive=progressive)
    info = info_of(data)
    assert (info is not None and info[:2] == size) == is_decoded
    if not is_decoded:
        assert info in (None, undecodable(DecodeError.TOO_LARGE))


def test_what_is_in_an_icon_has_the_same_limits() -> None:
    """An icon of 256 pixels, says its directory, may hold a picture of another size."""
    png = encoded(Image.new("1", (5_001, 5_001)), "PNG")
    directory = struct.pack("<HHHBBBBHHII", 0, 1, 1, 0, 0, 0, 0, 1, 32, len(png), 22)
    assert info_of(directory + png) is None


def test_what_is_too_large_for_one_child_may_be_decoded_by_another() -> None:
    """Whoever decodes small pictures alone has no verdict on larger ones, only on broken ones."""
    data = encoded(Image.new("1", (2_000, 2_001)), "PNG")
    assert info_of(data, QUICK_LIMITS) is None
    assert info_of(data)[:2] == (2_000, 2_001)
    assert info_of(data[:30], QUICK_LIMITS) == undecodable(DecodeError.BROKEN)


@given(st.sampled_from(["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "ICO"]), st.data())
def test_damaged_pictures_never_raise(file_format: str, choose: st.DataObject) -> None:
    """Whichever bytes are wrong, there is everything about the picture, or a reason."""
    data = bytearray(encoded(photo(24, 24), file_format))
    for _ in range(3):
        data[choose.draw(st.integers(0, len(data) - 1))] = choose.draw(st.integers(0, 255))
    info = info_of(bytes(data))
    assert info is None or info == undecodable(info.decode_error) or None not in info[:3]
    assert info is None or (info.decode_error is None) == (info.width is not None)
