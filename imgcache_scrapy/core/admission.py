"""Whether a response is an image that we may keep, and if not, why: pure functions."""

from typing import Literal

from imgcache_scrapy.core.completeness import is_complete
from imgcache_scrapy.core.formats import is_html, sniff

ACCEPTED_STATUSES: frozenset[int] = frozenset({200, 201, 203})
"""The HTTP statuses whose body is the whole of what the URL stands for (RFC 9110, 15.3)."""

Reason = Literal["empty", "html", "not_image", "truncated"]
"""Why a body is refused: the code for statistics and logs."""

MESSAGES: dict[Reason, str] = {
    "empty": "the response has no content",
    "html": "an HTML page came instead of an image",
    "not_image": "the content is no image of a known format",
    "truncated": "the image is cut off before its end",
}
"""What each reason says to a reader."""


def refusal(body: bytes, *, content_length: int | None = None) -> Reason | None:
    """Say why a body must not be kept as an image.

    Args:
        body: the decoded content of a response.
        content_length: the number of bytes that the origin announced for exactly this body; None
            when it announced none, or announced that of a compressed body.

    Returns:
        The first reason that applies, or None for a whole image.
    """
    if not body:
        return "empty"
    content_type = sniff(body)
    if content_type is None:
        return "html" if is_html(body) else "not_image"
    is_short = content_length is not None and len(body) < content_length
    return "truncated" if is_short or not is_complete(body, content_type) else None
