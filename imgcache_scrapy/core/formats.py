"""Detect the format of a picture from its first bytes."""

import re
from pathlib import PurePosixPath
from urllib.parse import urlsplit

IMAGE_SUFFIXES: frozenset[str] = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".gif", ".webp", ".avif", ".heic", ".jxl", ".bmp"}
    | {".tif", ".tiff", ".ico", ".cur", ".svg", ".jp2", ".j2k"}
)
"""The usual endings of a picture's URL path, in lower case, with the dot."""

EXTENSIONS = {
    "image/jpeg": "jpg",
    "image/png": "png",
    "image/gif": "gif",
    "image/webp": "webp",
    "image/avif": "avif",
    "image/heic": "heic",
    "image/jxl": "jxl",
    "image/bmp": "bmp",
    "image/tiff": "tiff",
    "image/jp2": "jp2",
    "image/x-icon": "ico",
    "image/svg+xml": "svg",
}
"""The extension of the file names of each content type, without the dot."""

_SIGNATURES = {
    "image/jpeg": rb"\xff\xd8\xff",
    "image/png": rb"\x89PNG\r\n\x1a\n",
    "image/gif": rb"GIF8[79]a",
    "image/webp": rb"RIFF.{4}WEBPVP8[ LX]",
    "image/jxl": rb"\xff\x0a|\0\0\0\x0cJXL \r\n\x87\n",
    # Other files also start with "BM", so check that the DIB header has a known size.
    "image/bmp": rb"BM.{12}[\x0c\x10\x28\x34\x38\x40\x6c\x7c]\0\0\0",
    # Some writers swap the bytes of the version, which decoders do not mind.
    "image/tiff": rb"II\*\0|MM\0\*|II\0\*|MM\*\0|II\+\0|MM\0\+",
    # The container, and a bare codestream. Pillow has this type for both.
    "image/jp2": rb"\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51",
    # Other files also start with 0 0 1 0, so check the first entry: planes, bit depth, size and
    # offset must be plausible. .NET writes 255 into the reserved byte.
    "image/x-icon": rb"\0\0\x01\0[^\0]\0...[\0\xff][\0\x01]\0[\0\x01\x04\x08\x10\x18\x20]\0"
    rb"(?!\0{4}).{4}(?!\0{4}).{4}",
}
# Where a picture of an icon starts: a PNG, or a DIB header of a known size.
_ICON_PICTURE = re.compile(rb"\x89PNG|[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0")
_MAX_ICONS = 256

_HEIC_BRANDS = frozenset(
    {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"}
)
_MAX_PROLOG = 65536
# The match takes linear time, because no loop that ends at a missing character is tried again. An
# HTML DOCTYPE is not skipped, because it shows that the document is HTML. Literals, comments and
# instructions may contain what ends a DOCTYPE.
_LITERAL = r"\"[^\"]*\"|'[^']*'"
_SUBSET = rf"\[(?:[^\]<\"']|{_LITERAL}|<!--.*?-->|<\?.*?\?>|<(?!!--|\?))*+\]\s*"
_MISC = re.compile(
    r"(?:\s+|<\?.*?\?>|<!--.*?-->"
    rf"|<!DOCTYPE(?!\s+html\b)(?:[^\[>\"']|{_LITERAL})*+(?:{_SUBSET})?>)*",
    re.ASCII | re.DOTALL | re.IGNORECASE,
)
_SVG_ROOT = re.compile(r"<((?:[\w.-]+:)?svg)(?=[\s/>])")
# "meta" is not in the WHATWG list, but pages that only redirect often begin with it.
_HTML_START = re.compile(
    r"<(?:!doctype\s+html\b|(?:html|head|body|script|title|style|meta|iframe|div|table|font|h1|br"
    r"|p|a|b)(?=[\s/>]))",
    re.ASCII | re.IGNORECASE,
)


def has_image_suffix(url: str) -> bool:
    """Return whether a URL's path ends with the suffix of a picture format."""
    return PurePosixPath(urlsplit(url).path).suffix.lower() in IMAGE_SUFFIXES


def sniff(data: bytes) -> str | None:
    """Detect the content type of a picture from its first bytes.

    The signatures come from each format's specification: JPEG (ITU-T T.81 B), PNG (W3C PNG 5.2),
    GIF (GIF89a 17), WebP (RFC 9649 2.4), JPEG XL (ISO 18181-2), BMP (Microsoft BITMAPFILEHEADER),
    TIFF (TIFF 6.0 2, BigTIFF), JPEG 2000 (ISO 15444-1 A and I), ICO and CUR (Microsoft ICONDIR),
    AVIF and HEIC (brands of ISO 14496-12 4.3) and SVG (SVG 2: XML with the root element `svg`,
    which must start in the first 64 KiB). A cursor has the type of an icon, as in the WHATWG MIME
    Sniffing Standard 6.1, because no type is registered for it.

    Args:
        data: the picture, or at least its first 64 KiB.

    Returns:
        The content type, for example `image/png`; None if the format is not known.
    """
    for content_type, signature in _SIGNATURES.items():
        if re.match(signature, data, re.DOTALL):
            return content_type
    if _is_icon(data):
        return "image/x-icon"
    is_svg = match_svg_root(decode_markup(data[:_MAX_PROLOG])) is not None
    return _sniff_brands(data) or ("image/svg+xml" if is_svg else None)


def is_html(data: bytes) -> bool:
    """Return whether data looks like an HTML page (WHATWG MIME Sniffing Standard 7.1).

    Args:
        data: the document, or at least its first 64 KiB.

    Returns:
        True if an HTML tag follows optional white space, comments and an XML declaration.
    """
    text = decode_markup(data[:_MAX_PROLOG])
    return _HTML_START.match(text, skip_misc(text)) is not None


def _is_icon(data: bytes) -> bool:
    """Return whether a picture starts where the directory of an icon or a cursor says.

    The rest of the directory may be anything, as for browsers. In a cursor, the place of the
    pointer's tip is where an icon has the planes and the bit depth.
    """
    if data[:4] not in {b"\0\0\1\0", b"\0\0\2\0"}:
        return False
    end = 6 + 16 * min(int.from_bytes(data[4:6], "little"), _MAX_ICONS)
    starts = (int.from_bytes(data[place : place + 4], "little") for place in range(18, end, 16))
    # Without an offset, decoders look behind the directory.
    return any(_ICON_PICTURE.match(data, max(start or end, 6 + 16)) for start in starts)


def _sniff_brands(data: bytes) -> str | None:
    """Detect AVIF (AVIF 1.1, 6) and HEIC (ISO 23008-12 B); AVIF files often list both brands."""
    if data[4:8] != b"ftyp":
        return None
    end = min(int.from_bytes(data[:4], "big"), 1024)
    brands = {data[offset : offset + 4] for offset in (8, *range(16, end, 4))}
    if brands & {b"avif", b"avis"}:
        return "image/avif"
    return "image/heic" if brands & _HEIC_BRANDS else None


def match_svg_root(text: str) -> re.Match[str] | None:
    """Match the start tag of the root element if it is `svg`; group 1 is the tag's name."""
    return _SVG_ROOT.match(text, skip_misc(text[:_MAX_PROLOG]))


def decode_markup(data: bytes) -> str:
    """Decode markup to search it for tags; outside UTF-16 all encodings write tags in ASCII."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16", "replace")
    return data.removeprefix(b"\xef\xbb\xbf").decode("latin-1")


def skip_misc(text: str) -> int:
    """Return the index after white space, comments and the like (XML 1.0, 2.8: prolog, Misc)."""
    misc = _MISC.match(text)
    return misc.end() if misc else 0
