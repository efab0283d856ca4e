"""Ask a site whether the image of a stale capture has changed, and read its answer."""

from collections.abc import Callable, Iterable, Mapping

from imgcache_scrapy.core.entry import Entry
from imgcache_scrapy.core.errors import ImgCacheError
from imgcache_scrapy.core.image_url import ImageUrl

NOT_MODIFIED = 304
"""The status of the answer that the image has not changed."""
GONE_STATUSES = frozenset({404, 410})
"""The statuses of the answer that the site does not have the image any more."""

_CONDITIONS = (
    "If-None-Match",
    "If-Modified-Since",
    "If-Match",
    "If-Unmodified-Since",
    "If-Range",
)


def validators(entry: Entry) -> dict[str, bytes]:
    """Return the headers that ask a site to send an image only if it is not that of an entry."""
    kept = entry.get("headers", {})
    given = {"If-None-Match": kept.get("ETag"), "If-Modified-Since": kept.get("Last-Modified")}
    # A program may have stored any text as a header; a real one is Latin-1.
    return {name: text.encode("latin-1", "replace") for name, text in given.items() if text}


def is_conditional(names: Iterable[bytes]) -> bool:
    """Return whether a request with headers of these names asks for an image on a condition."""
    return not {name.decode("latin-1").title() for name in names}.isdisjoint(_CONDITIONS)


def confirms(entry: Entry, url: ImageUrl, response_url: str, key_of: Callable[[str], str]) -> bool:
    """Return whether the "not modified" of a URL is about the image of an entry.

    A validator means something only to the URL that gave it. A redirect may lead elsewhere now.

    Args:
        entry: the entry whose validators were sent.
        url: the URL that was asked for.
        response_url: the URL that answered.
        key_of: computes the key of a URL.
    """
    try:
        return key_of(response_url) == key_of(entry.get("final_url", url.url))
    except ImgCacheError:
        return False


def renewed_headers(entry: Entry, given: Mapping[str, str]) -> dict[str, str]:
    """Return the headers of a capture, renewed by those of the answer "not modified".

    Args:
        entry: the entry of the capture.
        given: the headers of the answer. Its Content-Type says nothing about the image.
    """
    news = {name: value for name, value in given.items() if name != "Content-Type"}
    return {**entry.get("headers", {}), **news}


def as_stale(entry: Entry) -> Entry:
    """Return the entry of an image that is delivered although it is too old."""
    return {**entry, "stale": True}


def as_changed(entry: Entry, previous: Entry) -> Entry:
    """Return an entry that says which image its URL had before, and how far apart they look."""
    changed: Entry = {
        **entry,
        "changed": True,
        "previous_content_hash": previous["content_hash"],
    }
    ours, theirs = entry["perceptual_hash"], previous["perceptual_hash"]
    if ours is not None and theirs is not None:
        changed["distance"] = (int(ours, 16) ^ int(theirs, 16)).bit_count()
    return changed
