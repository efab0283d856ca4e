"""Create responses from cache hits, and recognise them."""

from scrapy import Request
from scrapy.http import Headers, Response
from scrapy.responsetypes import responsetypes

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
