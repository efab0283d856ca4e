"""How pictures begin and end: files of every format, and cut, broken, imitated, hostile ones."""

import io
import struct
import time
import zlib
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from imgcache_scrapy.core.completeness import is_in_doubt
from imgcache_scrapy.core.formats import IMAGE_SUFFIXES, is_html, sniff
from tests.support.pictures import chunk, encoded, noise


def picture(mode="RGB"):
    """Draw noise, which no codec can shrink to next to nothing."""
    return noise(32, 24).convert(mode)


def saved(kind, mode="RGB", *, pages=(), **options):
    if pages:
        options |= {"save_all": True, "append_images": pages}
    return encoded(picture(mode), kind, **options)


def box(kind, content=b""):
    return struct.pack(">I", 8 + len(content)) + kind + content


ROTATED = picture().rotate(180)
THUMBNAIL = saved("JPEG")
EXIF = b"Exif\0\0MM\0*\0\0\0\x08" + bytes(6) + THUMBNAIL
PNG_START = b"\x89PNG\r\n\x1a\n"
INTERLACED = chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 1))
IDAT = chunk(b"IDAT", zlib.compress(b"\0\7"))
SVG = '<svg xmlns="http://www.w3.org/2000/svg"><svg x="1"/><path d="M0 0"/></svg>'
DOCTYPE = '<!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN" "svg11.dtd" [<!ENTITY a "b">]>'
TIFF = saved("TIFF")
STRIPS = b"\x11\1\4\0"  # the tag and type of StripOffsets
JXL_BOXES = box(b"JXL ", b"\r\n\x87\n") + box(b"ftyp", b"jxl \0\0\0\0jxl ")

# Where every byte counts: cut anywhere, these are no longer complete.
TIGHT = {
    "baseline": ("image/jpeg", saved("JPEG")),
    "progressive": ("image/jpeg", saved("JPEG", progressive=True)),
    "restarts": ("image/jpeg", saved("JPEG", subsampling=0, restart_marker_blocks=1)),
    "thumbnail": ("image/jpeg", saved("JPEG", exif=EXIF)),
    "PNG": ("image/png", saved("PNG")),
    "interlaced PNG": ("image/png", PNG_START + INTERLACED + IDAT + chunk(b"IEND")),
    "GIF": ("image/gif", saved("GIF")),
    "animated GIF": ("image/gif", saved("GIF", pages=[ROTATED], comment=b"two")),
    "lossy WebP": ("image/webp", saved("WEBP")),
    "lossless WebP": ("image/webp", saved("WEBP", lossless=True)),
    "animated WebP": ("image/webp", saved("WEBP", pages=[ROTATED])),
    "AVIF": ("image/avif", saved("AVIF")),
    "BMP of 24 bits": ("image/bmp", saved("BMP")),
    "BMP of 8 bits": ("image/bmp", saved("BMP", "P")),
    "BMP of 1 bit": ("image/bmp", saved("BMP", "1")),
    "BMP of 32 bits": ("image/bmp", saved("BMP", "RGBA")),
    "ICO": ("image/x-icon", saved("ICO", sizes=[(8, 8), (24, 24)])),
    "TIFF": ("image/tiff", TIFF),
    "big-endian TIFF": ("image/tiff", saved("TIFF", "I;16B")),
    "BigTIFF": ("image/tiff", saved("TIFF", big_tiff=True)),
    # Pillow pads pages, which nobody misses behind the last.
    "multi-page TIFF": ("image/tiff", saved("TIFF", pages=[ROTATED, ROTATED]).rstrip(b"\0")),
    "tiled TIFF": (
        "image/tiff",
        saved("TIFF", tiffinfo={65322: 32, 65323: 24})
        .replace(b"\x2a\xff", b"\x42\1")
        .replace(b"\x2b\xff", b"\x43\1")
        .replace(STRIPS, b"\x44\1\4\0")
        .replace(b"\x17\1\4\0", b"\x45\1\4\0"),
    ),
}
WHOLE = TIGHT | {
    "JPEG with trailing data": ("image/jpeg", saved("JPEG") + b"\r\n<!-- served in 3 ms -->"),
    "compressed TIFF": ("image/tiff", saved("TIFF", compression="tiff_lzw")),
    "JPEG 2000": ("image/jp2", saved("JPEG2000")),
    "JPEG 2000 codestream": ("image/jp2", saved("JPEG2000", no_jp2=True)),
}
# Nobody can tell by their structure whether these are whole, only a decoder can.
DOUBTFUL = {
    "ICO of BMPs": ("image/x-icon", saved("ICO", sizes=[(8, 8)], bitmap_format="bmp")),
    "animated AVIF": ("image/avif", saved("AVIF", pages=[ROTATED])),
    "AVIF by a compatible brand": (
        "image/avif",
        box(b"ftyp", b"mif1\0\0\0\0mif1avif") + box(b"meta") + b"\0\0\0\0mdatxyz",
    ),
}
# Pillow cannot open these, so that nobody could end a doubt.
UNCHECKED = {
    "HEIC": (
        "image/heic",
        box(b"ftyp", b"heic\0\0\0\0mif1heic") + box(b"meta", b"xy") + box(b"mdat", b"z"),
    ),
    "HEIC with a 64-bit size": (
        "image/heic",
        box(b"ftyp", b"heix\0\0\0\0") + box(b"meta") + b"\0\0\0\1mdat\0\0\0\0\0\0\0\x13xyz",
    ),
    "JXL container": ("image/jxl", JXL_BOXES + box(b"jxlc", b"\xff\x0a")),
    "SVG": ("image/svg+xml", SVG.encode()),
    "self-closing SVG": ("image/svg+xml", b'<svg width="1"/>'),
    "prefixed SVG": ("image/svg+xml", b'<s:svg xmlns:s="http://www.w3.org/2000/svg"></s:svg>'),
    "UTF-16 SVG": ("image/svg+xml", SVG.encode("utf-16")),
    "JXL codestream": ("image/jxl", b"\xff\x0a\x7f\x20"),
    "SVG with a prolog": (
        "image/svg+xml",
        f"\ufeff<?xml version='1'?>\n<!-- <html> --><?a b?>{DOCTYPE}\n{SVG}\n<!-- x -->\n".encode(),
    ),
}
UNCHECKED["HEIF sequence"] = (
    "image/heic",
    box(b"ftyp", b"msf1\0\0\0\0msf1hevc") + box(b"moov") + box(b"mdat", b"x"),
)
UNCHECKED |= {
    f"SVG with {doctype}": ("image/svg+xml", f"<!DOCTYPE svg {doctype}>{SVG}".encode())
    for doctype in (
        "SYSTEM 'a>b'",
        '[<!ENTITY a "b]>">]',
        "[<!ENTITY a '<![CDATA[b]]>'>] ",
        "[<!-- don't ]> --><!ENTITY a 'b'>]",
        "[<?a ]>?>]",
    )
}
ALL = WHOLE | DOUBTFUL | UNCHECKED
CONTENT_TYPES = sorted({content_type for content_type, _ in ALL.values()})
NO_PICTURES = {
    "nothing": b"",
    "zeros": bytes(100),
    "an icon of zeros": b"\0\0\1\0\1\0" + bytes(100),
    "text from BM on": b"BMW builds cars, and this is a text about them",
    "a video": box(b"ftyp", b"isom\0\0\2\0isommp41"),
    "a sound": b"RIFF\x24\0\0\0WAVEfmt " + bytes(30),
    "a page with SVG": b"<!DOCTYPE html><html><body><svg></svg></body></html>",
    "a bare page with SVG": b"<!doctype html><svg></svg>",
    "XHTML": b'<?xml version="1.0"?><html xmlns="http://www.w3.org/1999/xhtml"><svg/></html>',
    "a feed": b'<?xml version="1.0"?><svgs><svg/></svgs>',
    "text with SVG": b"see <svg></svg>",
    "SVG in a comment": b"<!-- <svg></svg> -->",
    "SVG after 64 KiB": b" " * 65536 + b"<svg></svg>",
}
STARTS = [data[:48] for _, data in ALL.values()]
MEGABYTE = 2**20
HOSTILE = {
    "JPEG of fill": ("image/jpeg", b"\xff\xd8" + b"\xff" * MEGABYTE),
    "JPEG of segments": ("image/jpeg", b"\xff\xd8" + b"\xff\xc4\0\2" * (MEGABYTE // 4)),
    "PNG of empty chunks": ("image/png", PNG_START + chunk(b"tEXt") * (MEGABYTE // 12)),
    "GIF of small blocks": (
        "image/gif",
        b"GIF89a" + bytes(7) + b"!\xfe" + b"\1a" * (MEGABYTE // 2),
    ),
    "GIF of extensions": ("image/gif", b"GIF89a" + bytes(7) + b"!\xfe\0" * (MEGABYTE // 3)),
    "HEIC of empty boxes": ("image/heic", box(b"free") * (MEGABYTE // 8)),
    "TIFF in a circle": (
        "image/tiff",
        b"II*\0\x08\0\0\0" + struct.pack("<HHHIII", 1, 273, 4, 1, 0, 8) + bytes(MEGABYTE),
    ),
    "TIFF with overlapping tables": (
        "image/tiff",
        b"II*\0\x08\0\0\0"
        + struct.pack("<HHHIII", 1, 273, 3, MEGABYTE // 4, 9, 8)
        + bytes(MEGABYTE),
    ),
} | {
    f"SVG of {part}": ("image/svg+xml", (start + part * (MEGABYTE // len(part))).encode())
    for start in ("", "<svg></svg>", "<svg ", "<!DOCTYPE[")
    for part in (
        "<!--",
        "<!---->",
        "<!-- ",
        "<?",
        "<!DOCTYPE ",
        "<!DOCTYPE[ ] ",
        "] ",
        "</svg ",
        "'",
    )
}


@pytest.mark.parametrize(("content_type", "data"), ALL.values(), ids=ALL)
def test_a_whole_picture_is_recognised(content_type, data):
    """Every kind of file that a site may serve is known."""
    assert sniff(data) == content_type
    assert not is_html(data)


@pytest.mark.parametrize(("content_type", "data"), WHOLE.values(), ids=WHOLE)
def test_a_whole_picture_leaves_no_doubt(content_type, data):
    """What follows its format's specification to the end is whole without decoding it."""
    assert not is_in_doubt(data, content_type)


@pytest.mark.parametrize(("content_type", "data"), DOUBTFUL.values(), ids=DOUBTFUL)
def test_a_picture_of_a_rare_structure_is_in_doubt(content_type, data):
    """What the quick check cannot follow is left to the decoder, whole or cut."""
    assert all(is_in_doubt(data[:size], content_type) for size in (len(data), len(data) - 1, 50))


@pytest.mark.parametrize(("content_type", "data"), UNCHECKED.values(), ids=UNCHECKED)
def test_a_picture_that_nobody_can_decode_is_never_in_doubt(content_type, data):
    """HEIC, JPEG XL and SVG are not refused for their end, because Pillow cannot open them."""
    assert not any(is_in_doubt(data[:size], content_type) for size in range(len(data) + 1))


@pytest.mark.parametrize(("content_type", "data"), TIGHT.values(), ids=TIGHT)
def test_a_picture_cut_anywhere_is_not_complete(content_type, data):
    """No single prefix of a file passes for the file."""
    cuts = [
        n for n in range(len(data)) if sniff(data[:n]) and not is_in_doubt(data[:n], content_type)
    ]
    assert cuts == []


@pytest.mark.parametrize("kind", ["baseline", "interlaced PNG", "BigTIFF", "ICO"])
def test_what_we_call_whole_can_be_decoded(kind):
    """The samples are pictures to Pillow too, and not only to us."""
    with Image.open(io.BytesIO(TIGHT[kind][1])) as image:
        assert image.getpixel((0, 0)) is not None


def test_the_end_of_a_thumbnail_is_not_the_end():
    """A JPEG that was cut right behind its EXIF thumbnail lacks the picture proper."""
    data = TIGHT["thumbnail"][1]
    end = data.index(THUMBNAIL) + len(THUMBNAIL)
    assert data[:end].endswith(b"\xff\xd9")
    assert is_in_doubt(data[:end], "image/jpeg")


@pytest.mark.parametrize(
    "kind", ["progressive", "PNG", "GIF", "lossy WebP", "BMP of 8 bits", "ICO", "TIFF"]
)
@given(junk=st.binary(min_size=1))
def test_data_behind_the_end_is_no_harm(kind, junk):
    """Servers append what they like, and browsers show the picture all the same."""
    content_type, data = TIGHT[kind]
    assert not is_in_doubt(data + junk, content_type)


@pytest.mark.parametrize("data", NO_PICTURES.values(), ids=NO_PICTURES)
def test_what_only_resembles_a_picture_is_none(data):
    """Neither a few fitting bytes nor an "<svg" somewhere make a picture."""
    assert sniff(data) is None


@pytest.mark.parametrize(
    "change", [(4, b"\2"), (9, b"\7"), (10, b"\3\0"), (12, b"\2\0"), (12, b"\xff\xff")]
)
@pytest.mark.parametrize("kind", [1, 2])
def test_the_directory_of_an_icon_may_be_unusual(kind, change):
    """Where a directory leads to a picture, its planes and its depth do not matter."""
    place, content = change
    icon = bytearray(saved("ICO", sizes=[(8, 8)]))
    icon[place : place + len(content)] = content
    icon[2] = kind
    assert sniff(bytes(icon)) == "image/x-icon"


def test_a_cursor_may_lack_the_place_of_its_picture():
    """Pillow then looks for it behind the directory."""
    cursor = bytearray(saved("ICO", sizes=[(8, 8)]))
    cursor[2], cursor[18] = 2, 0
    assert sniff(bytes(cursor)) == "image/x-icon"


@pytest.mark.parametrize("count", [3_000, pytest.param(20_000, marks=pytest.mark.endurance)])
@pytest.mark.parametrize("start", [b"\0\0\1\0", b"\0\0\2\0"])
def test_random_bytes_are_no_icon(start, count):
    """The four bytes with which icons and cursors start are those of other files, too."""
    random = Random(1)
    for _ in range(count):
        assert sniff(start + random.randbytes(200)) is None


def test_the_header_of_a_tga_is_no_cursor():
    """Both begin alike."""
    assert sniff(saved("TGA")) is None


@pytest.mark.parametrize(
    "page",
    [
        "<!DOCTYPE html><p>",
        "<!doctype HTML PUBLIC '-//W3C//DTD HTML 4.01//EN'>",
        " \r\n<HTML lang=en>",
        "<!-- a --><?xml version='1.0'?>\n<!-- b --><html>",
        "<meta http-equiv=refresh>",
        "<br />\n<b>Warning</b>",
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_page_is_html(page, encoding):
    """Pages begin in many ways, and sites have them say that there is no picture."""
    assert is_html(page.encode(encoding))
    assert sniff(page.encode(encoding)) is None


@pytest.mark.parametrize("text", ["", "hello <html>", "<rss>", "<htmlx>", "{}", "<!-- <html> -->"])
def test_other_text_is_not_html(text):
    """Only how a document begins tells what it is."""
    assert not is_html(text.encode())


@pytest.mark.parametrize("height", [24, -24])
@pytest.mark.parametrize("size", [0, 54])
def test_a_bmp_without_its_size_ends_with_its_last_row(height, size):
    """Some writers leave the size out or count the headers only; rows may go down or up."""
    whole = saved("BMP")
    data = (
        whole[:2] + struct.pack("<I", size) + whole[6:22] + struct.pack("<i", height) + whole[26:]
    )
    assert not is_in_doubt(data, "image/bmp")
    assert is_in_doubt(data[:-1], "image/bmp")


def test_a_bmp_of_os2_ends_with_its_last_row():
    """The oldest DIB header has sides of 16 bits."""
    data = b"BM" + struct.pack("<IIIIHHHH", 26, 0, 26, 12, 3, 2, 1, 24) + bytes(2 * 12)
    assert sniff(data) == "image/bmp"
    assert not is_in_doubt(data, "image/bmp")
    assert is_in_doubt(data[:-1], "image/bmp")


@pytest.mark.parametrize(
    ("content_type", "data"),
    [
        HOSTILE["TIFF in a circle"],
        ("image/gif", b"GIF89a" + bytes(7) + b"\0;"),
        ("image/tiff", b"II*\0" + bytes(40)),
        ("image/tiff", TIFF.replace(STRIPS, b"\x11\1\5\0")),
        ("image/avif", box(b"ftyp", b"avif\0\0\0\0") + box(b"mdat", b"x")),
    ],
)
def test_a_broken_structure_is_not_complete(content_type, data):
    """Where a format's rules are broken there is no end to be found."""
    assert is_in_doubt(data, content_type)


def test_a_format_without_a_rule_counts_as_complete():
    """We refuse what we know to be cut off, and nothing else."""
    assert not is_in_doubt(b"", "image/unheard-of")


@pytest.mark.parametrize(("content_type", "data"), HOSTILE.values(), ids=HOSTILE)
def test_hostile_data_take_linear_time(content_type, data):
    """A megabyte made to be slow takes a tenth of a second; a quadratic walk takes hours."""
    start = time.process_time()
    sniff(data)
    is_html(data)
    is_in_doubt(data, content_type)
    assert time.process_time() - start < 10


@given(st.builds(bytes.__add__, st.sampled_from([b"", *STARTS]), st.binary(max_size=200)))
def test_no_data_whatsoever_make_us_raise(data):
    """Whatever follows a good or a bad start, there is an answer."""
    assert sniff(data) in {None, *CONTENT_TYPES}
    assert is_html(data) in {True, False}
    assert {is_in_doubt(data, content_type) for content_type in CONTENT_TYPES} <= {True, False}


@given(st.sampled_from(list(ALL.values())), st.randoms(), st.binary(min_size=1, max_size=8))
def test_no_damage_to_a_picture_makes_us_raise(whole, random_, damage):
    """A few wrong bytes in a real file lead the walk astray, but never out of bounds."""
    content_type, data = whole
    at = random_.randrange(min(len(data), 400))
    damaged = data[:at] + damage + data[at + len(damage) :]
    assert sniff(damaged) in {None, *CONTENT_TYPES}
    assert is_in_doubt(damaged, content_type) in {True, False}


def test_image_suffixes_are_those_of_the_formats_we_know():
    """Lower-case with the dot, as `splitext` gives them."""
    assert {".jpg", ".jpeg", ".png", ".gif", ".webp", ".avif", ".svg"} <= IMAGE_SUFFIXES
    assert all(suffix[0] == "." and suffix[1:].islower() for suffix in IMAGE_SUFFIXES)
