"""Tile: what the page shows of an image in a list."""

from collections.abc import Iterable
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from imgcache_scrapy.core.entry import Entry
from imgcache_scrapy.core.formats import EXTENSIONS
from imgcache_scrapy.core.urls import host_of
from imgcache_scrapy.server.ui.texts import kind, pixels, short, size

SHOWN_BY_BROWSERS = frozenset(
    {"image/jpeg", "image/png", "image/gif", "image/webp", "image/avif", "image/bmp"}
    | {"image/x-icon"}
)
"""The content types that each browser shows; never SVG, which is a document."""
_MAX_NAME = 80
_MAX_STEM = 100
# File systems allow 255 bytes in a name, and a zip adds a number.
_MAX_STEM_BYTES = 200


class Tile(NamedTuple):
    """An image in a list.

    Attributes:
        content_hash: its hash.
        name: its file name, or what else names it.
        host: the host of its URL.
        facts: its size in pixels, type and bytes, in few words.
        badges: what is wrong with it.
        has_thumbnail: whether there is a small picture of it.
        distance: the number of bits in which its perceptual hash differs; None if unknown.
    """

    content_hash: str
    name: str
    host: str
    facts: str
    badges: list[str]
    has_thumbnail: bool
    distance: int | None = None


def tile_of(entry: Entry) -> Tile:
    """Return what to show of an entry."""
    return Tile(
        entry["content_hash"],
        short(entry["original_filename"] or _last_part(entry["url"]), _MAX_NAME),
        short(host_of(entry["url"]), _MAX_NAME),
        f"{pixels(entry['width'], entry['height']) or 'no size'} · {kind(entry['content_type'])}"
        f" · {size(entry['file_size_bytes'])}",
        list(_badges(entry)),
        is_visible(entry),
        entry.get("distance"),
    )


def is_visible(entry: Entry) -> bool:
    """Return whether there is a thumbnail of an image."""
    is_kept_back = entry.get("damaged") or entry.get("blocked")
    return entry["width"] is not None and not is_kept_back


def download_name(entry: Entry) -> str:
    """Return a file name for an image, with the extension of what it is.

    It has no character with a meaning in a path, and none that hides what follows.
    """
    name = entry["original_filename"] or _last_part(entry["url"])
    stem = name.rpartition(".")[0] or name
    safe = "".join(each if each.isalnum() or each in "-_ ()+" else "_" for each in stem)
    extension = EXTENSIONS.get(entry["content_type"], "bin")
    cut = safe.strip(" _")[:_MAX_STEM].encode()[:_MAX_STEM_BYTES].decode(errors="ignore")
    return f"{cut or entry['content_hash'][:16]}.{extension}"


def _badges(entry: Entry) -> Iterable[str]:
    if entry.get("damaged"):
        yield "damaged"
    if entry.get("blocked"):
        yield "blocked"
    if entry["width"] is None:
        yield "not decoded"


def _last_part(url: str) -> str:
    try:
        path = urlsplit(url).path
    except ValueError:
        path = url
    return unquote(path.rstrip("/").rpartition("/")[2]) or url
