"""Decide whether a response body is an image that the cache may keep, and if not, why."""

from typing import Literal

from imgcache_scrapy.core.completeness import is_complete
from imgcache_scrapy.core.formats import is_html, sniff

ACCEPTED_STATUSES: frozenset[int] = frozenset({200, 201, 203})
"""The HTTP statuses whose body is the complete content of the URL (RFC 9110, 15.3)."""

Reason = Literal["empty", "html", "not_image", "truncated"]
"""The code of a refusal, for stats and logs."""

MESSAGES: dict[Reason, str] = {
    "empty": "the response has no content",
    "html": "the response is an HTML page, not an image",
    "not_image": "the content is not an image of a known format",
    "truncated": "the image is cut off before its end",
}
"""The sentence for each reason."""


def refusal(body: bytes, *, content_length: int | None = None) -> Reason | None:
    """Decide whether a body must not be kept as an image.

    Args:
        body: the decoded content of a response.
        content_length: the length of this body as announced by the site, in bytes; None if it is
            not known, for example because only the compressed length was announced.

    Returns:
        The first reason that applies; None if the body is a complete image.
    """
    if not body:
        return "empty"
    content_type = sniff(body)
    if content_type is None:
        return "html" if is_html(body) else "not_image"
    is_short = content_length is not None and len(body) < content_length
    return "truncated" if is_short or not is_complete(body, content_type) else None
