"""NoImage: why a URL gave no image; a crawl and `client.fetch` tell the same reasons."""

from typing import NamedTuple

from imgcache_scrapy.core.admission import ACCEPTED_STATUSES, MESSAGES, Reason
from imgcache_scrapy.core.failures import Failure

TOO_LARGE: Reason = "too_large"
"""The reason of an image that is larger than the limit."""

_KNOWN = "known_"
_ANSWERED = "the site answered the last request with"


class NoImage(NamedTuple):
    """Why a URL gave no image.

    Attributes:
        reason: the code of the reason, as in the stats.
        message: the reason as a sentence.
        http_status: the status of the site's response; None if there was none.
    """

    reason: str
    message: str
    http_status: int | None = None


OFFLINE = NoImage("offline", "the image is not in the cache, and IMGCACHE_MODE is offline")
"""The image is missing, and no site may be asked."""


def by_status(status: int, *, is_known: bool = False) -> NoImage | None:
    """Return why a status says that there is no image; None if it does not.

    Args:
        status: the status of a response.
        is_known: whether the response is made of a failure that the cache remembers.
    """
    if status in ACCEPTED_STATUSES:
        return None
    if is_known:
        return NoImage(f"{_KNOWN}http_{status}", f"{_ANSWERED} {status}", status)
    return NoImage(f"http_{status}", f"the site answered {status}", status)


def by_failure(failure: Failure) -> NoImage:
    """Return why a URL with a remembered failure gives no image."""
    reason, status = failure["reason"], failure["http_status"]
    cause = f"{_ANSWERED} {status}" if status else f"the last request failed ({reason})"
    message = f"{cause}; it is not asked again before {failure['expires_at']}"
    return NoImage(f"{_KNOWN}{reason}", message, status)


def by_refusal(reason: Reason, status: int | None, max_bytes: int) -> NoImage:
    """Return why a response must not be kept as an image.

    Args:
        reason: the reason of the refusal.
        status: the status of the response; None if it is not known.
        max_bytes: the size of the largest image that may be kept.
    """
    limit = f" of {max_bytes} bytes" if reason == TOO_LARGE else ""
    return NoImage(reason, MESSAGES[reason] + limit, status)
