"""The picture formats we know, by the bytes with which they begin."""

import re
from pathlib import PurePosixPath
from urllib.parse import urlsplit

IMAGE_SUFFIXES: frozenset[str] = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".gif", ".webp", ".avif", ".heic", ".jxl", ".bmp"}
    | {".tif", ".tiff", ".ico", ".svg"}
)
"""How the path of a picture's URL usually ends: lower-case, with the dot."""

_SIGNATURES = {
    "image/jpeg": rb"\xff\xd8\xff",
    "image/png": rb"\x89PNG\r\n\x1a\n",
    "image/gif": rb"GIF8[79]a",
    "image/webp": rb"RIFF.{4}WEBPVP8[ LX]",
    "image/jxl": rb"\xff\x0a|\0\0\0\x0cJXL \r\n\x87\n",
    # "BM" alone is too little evidence, so the size of the DIB header must be a known one.
    "image/bmp": rb"BM.{12}[\x0c\x10\x28\x34\x38\x40\x6c\x7c]\0\0\0",
    "image/tiff": rb"II\*\0|MM\0\*|II\+\0\x08\0\0\0|MM\0\+\0\x08\0\0",
    # So are zeros and a one: the first entry must have likely planes and depth, a size and an
    # offset. Its reserved byte is 255 when .NET wrote it.
    "image/x-icon": rb"\0\0\x01\0[^\0]\0...[\0\xff][\0\x01]\0[\0\x01\x04\x08\x10\x18\x20]\0"
    rb"(?!\0{4}).{4}(?!\0{4}).{4}",
}

_HEIC_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"})
_ROOT_LIMIT = 65536
# Linear, as nothing follows for which the loop would give anything back: look for what comes next
# from where this ends. A DOCTYPE of HTML is left standing, for it says what the document is.
_MISC = re.compile(
    r"(?:\s+|<\?.*?\?>|<!--.*?-->|<!DOCTYPE(?!\s+html\b)[^\[>]*(?:\[.*?\]\s*)?>)*",
    re.ASCII | re.DOTALL | re.IGNORECASE,
)
_SVG_ROOT = re.compile(r"<((?:[\w.-]+:)?svg)(?=[\s/>])")
# "meta", with which pages that only redirect begin, is the one tag that the WHATWG does not list.
_HTML_START = re.compile(
    r"<(?:!doctype\s+html\b|(?:html|head|body|script|title|style|meta|iframe|div|table|font|h1|br"
    r"|p|a|b)(?=[\s/>]))",
    re.ASCII | re.IGNORECASE,
)


def has_image_suffix(url: str) -> bool:
    """Tell whether a URL's path ends as a picture's usually does."""
    return PurePosixPath(urlsplit(url).path).suffix.lower() in IMAGE_SUFFIXES


def sniff(data: bytes) -> str | None:
    """Tell the content type of a picture by how it begins.

    The signatures are those of each format's specification: JPEG (ITU-T T.81 B), PNG (W3C PNG 5.2),
    GIF (GIF89a 17), WebP (RFC 9649 2.4), JPEG XL (ISO 18181-2), BMP (Microsoft BITMAPFILEHEADER),
    TIFF (TIFF 6.0 2, BigTIFF), ICO (Microsoft ICONDIR), AVIF and HEIC (brands of ISO 14496-12 4.3)
    and SVG (SVG 2: XML whose root element, here within the first 64 KiB, is `svg`).

    Args:
        data: the picture from its first byte on.

    Returns:
        Such as `image/png`, or None when it is no picture of a format we know.
    """
    for content_type, signature in _SIGNATURES.items():
        if re.match(signature, data, re.DOTALL):
            return content_type
    is_svg = svg_root(decoded(data[:_ROOT_LIMIT])) is not None
    return _sniff_brands(data) or ("image/svg+xml" if is_svg else None)


def is_html(data: bytes) -> bool:
    """Tell whether this looks like an HTML page (WHATWG MIME Sniffing Standard 7.1).

    Args:
        data: the document from its first byte on.

    Returns:
        True when HTML begins after any white space, comments and XML declaration.
    """
    text = decoded(data[:_ROOT_LIMIT])
    return _HTML_START.match(text, after_misc(text)) is not None


def _sniff_brands(data: bytes) -> str | None:
    """Tell AVIF (AVIF 1.1, 6) from HEIC (ISO 23008-12 B), as AVIF often claims both."""
    if data[4:8] != b"ftyp":
        return None
    end = min(int.from_bytes(data[:4], "big"), 1024)
    brands = {data[at : at + 4] for at in (8, *range(16, end, 4))}
    if brands & {b"avif", b"avis"}:
        return "image/avif"
    return "image/heic" if brands & _HEIC_BRANDS else None


def svg_root(text: str) -> re.Match[str] | None:
    """Find the start tag of the root element, if that is `svg`; its first group is the name."""
    return _SVG_ROOT.match(text, after_misc(text[:_ROOT_LIMIT]))


def decoded(data: bytes) -> str:
    """Decode markup well enough to see its tags, which are ASCII in every encoding but UTF-16."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16", "replace")
    return data.removeprefix(b"\xef\xbb\xbf").decode("latin-1")


def after_misc(text: str, at: int = 0) -> int:
    """Skip what may stand before and after the root element (XML 1.0, 2.8: prolog and Misc)."""
    misc = _MISC.match(text, at)
    return misc.end() if misc else at
