"""Create responses from cache hits, and decide whether a response is an image."""

from scrapy import Request
from scrapy.http import Headers, Response
from scrapy.responsetypes import responsetypes

from imgcache_scrapy.core.admission import Reason, refusal
from imgcache_scrapy.core.entry import Entry
from imgcache_scrapy.plugin import meta

CACHED_FLAGS = ("cached", "imgcache")


def cached_response(request: Request, entry: Entry, body: bytes) -> Response:
    """Create the response for a hit.

    Args:
        request: the request to answer; the entry is put into its meta, which the response shares.
        entry: the entry of the hit.
        body: the bytes of the image.

    Returns:
        A response of the same class as the site's response would have. Its flags are `imgcache`
        and `cached`; `cached` prevents Scrapy's HttpCache from storing it again.
    """
    request.meta[meta.ENTRY] = entry
    headers = Headers({"Content-Type": entry["content_type"]})
    response_class: type[Response] = responsetypes.from_args(
        headers=headers, url=request.url, body=body
    )
    return response_class(
        request.url, headers=headers, body=body, flags=list(CACHED_FLAGS), request=request
    )


def is_from_cache(response: Response) -> bool:
    """Return whether the response came from our cache; `cached` alone may come from HttpCache."""
    return "imgcache" in response.flags


def refusal_of(response: Response) -> Reason | None:
    """Return why a response's body must not be kept as an image; None if it may be kept."""
    if "dataloss" in response.flags or "partial" in response.flags:
        return "truncated"
    return refusal(response.body, content_length=_announced_length(response))


def _announced_length(response: Response) -> int | None:
    announced = response.headers.get("Content-Length") or b""
    if not announced.isdigit():
        return None
    # Scrapy may have decompressed the body, and the response does not show it. gzip makes a picture
    # that is already compressed slightly larger, so Content-Length may exceed the body's length.
    length = int(announced)
    return length - 24 - length // 2048
