"""Scrapy's requests and responses as the cache sees them: pure functions."""

from scrapy import Request
from scrapy.http import Headers, Response
from scrapy.responsetypes import responsetypes

from imgcache_scrapy.core.admission import Reason, refusal
from imgcache_scrapy.core.entry import Entry
from imgcache_scrapy.plugin import meta

CACHED_FLAGS = ("cached", "imgcache")


def cached_response(request: Request, entry: Entry, body: bytes) -> Response:
    """Make the response that a hit stands for.

    Args:
        request: what was asked for.
        entry: the hit; put into the request's, and so the response's, meta.
        body: its bytes.

    Returns:
        A response of the class that the origin's would have had, with the flags `cached`, which
        keeps HttpCache from storing it again, and `imgcache`.
    """
    request.meta[meta.ENTRY] = entry
    headers = Headers({"Content-Type": entry["content_type"]})
    made: type[Response] = responsetypes.from_args(headers=headers, url=request.url, body=body)
    return made(request.url, headers=headers, body=body, flags=list(CACHED_FLAGS), request=request)


def is_from_cache(response: Response) -> bool:
    """Tell whether our cache gave this response; HttpCache's `cached` alone does not say so."""
    return "imgcache" in response.flags


def refusal_of(response: Response) -> Reason | None:
    """Say why this response's body must not be kept as an image; None where it may."""
    if "dataloss" in response.flags or "partial" in response.flags:
        return "truncated"
    return refusal(response.body, content_length=_announced_length(response))


def _announced_length(response: Response) -> int | None:
    announced = response.headers.get("Content-Length") or b""
    if not announced.isdigit():
        return None
    # The length is of the body as it travelled, and Scrapy leaves no trace of having
    # decompressed it: a picture compressed in vain travels a little longer than it is.
    length = int(announced)
    return length - 24 - length // 2048
