"""Decide whether a response body is an image that the cache may keep, and if not, why."""

from typing import Literal

from imgcache_scrapy.core import completeness
from imgcache_scrapy.core.entry import Entry
from imgcache_scrapy.core.formats import is_html, sniff
from imgcache_scrapy.core.limits import MAX_IMAGE_BYTES

ACCEPTED_STATUSES: frozenset[int] = frozenset({200, 201, 203})
"""The HTTP statuses whose body is the complete content of the URL (RFC 9110, 15.3)."""

Reason = Literal["empty", "html", "not_image", "too_large", "truncated"]
"""The code of a refusal, for stats and logs."""

MESSAGES: dict[Reason, str] = {
    "empty": "the response has no content",
    "html": "the response is an HTML page, not an image",
    "not_image": "the content is not an image of a known format",
    "too_large": "the image is larger than the limit",
    "truncated": "the image is cut off before its end",
}
"""The sentence for each reason."""


def refusal(body: bytes, *, max_bytes: int = MAX_IMAGE_BYTES) -> Reason | None:
    """Decide by the first bytes whether a body must not be kept as an image.

    Args:
        body: the decoded content of a response.
        max_bytes: the size of the largest image that may be kept.

    Returns:
        The first reason that applies, but never `truncated`; see `is_in_doubt`.
    """
    if not body:
        return "empty"
    if sniff(body) is None:
        return "html" if is_html(body) else "not_image"
    return "too_large" if len(body) > max_bytes else None


def is_in_doubt(body: bytes) -> bool:
    """Return whether only a decoder can tell if an image is whole; the work is bounded.

    Args:
        body: an image for which `refusal` has no reason.
    """
    return completeness.is_in_doubt(body, sniff(body) or "")


def is_picture(entry: Entry) -> bool:
    """Return whether an entry is that of an image; a client can also store other bytes."""
    return entry["content_type"].startswith("image/")
