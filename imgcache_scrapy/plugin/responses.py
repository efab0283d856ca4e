"""Create responses from cache hits, and recognise them."""

from scrapy import Request
from scrapy.http import Headers, Response, TextResponse
from scrapy.responsetypes import responsetypes

from imgcache_scrapy.core.entry import Entry
from imgcache_scrapy.core.response_info import KEPT_HEADERS, ResponseInfo
from imgcache_scrapy.core.urls import is_data_url, without_fragment
from imgcache_scrapy.plugin import meta

CACHED_FLAGS = ("cached", "imgcache")

# As Scrapy writes names: it takes long to look for names in another form.
_KEPT = {name.title().encode(): name for name in KEPT_HEADERS}


def cached_response(request: Request, entry: Entry, body: bytes) -> Response:
    """Create the response for a hit.

    Args:
        request: the request to answer; the entry is put into its meta, which the response shares.
        entry: the entry of the hit.
        body: the bytes of the image.

    Returns:
        A response of the same class as the site's response would have. Its flags are `imgcache`
        and `cached`; `cached` prevents Scrapy's HttpCache from storing it again. It has the URL
        and the headers that the capture kept; without these it has only a Content-Type.
    """
    request.meta[meta.ENTRY] = entry
    url = entry.get("final_url", without_fragment(request.url))
    headers = Headers({"Content-Type": entry["content_type"]})
    if "headers" in entry:
        # They were decoded as Latin-1. A program may have stored other text.
        kept = {name: _encoded(value) for name, value in entry["headers"].items()}
        headers = Headers({**kept, "Content-Length": str(len(body))})
    response_class: type[Response] = responsetypes.from_args(headers=headers, url=url, body=body)
    return response_class(
        url, headers=headers, body=body, flags=list(CACHED_FLAGS), request=request
    )


def failed_response(request: Request, status: int) -> Response:
    """Create the response for a remembered failure: without headers and body.

    Args:
        request: the request to answer; it is not retried.
        status: the status of the site's response.
    """
    request.meta[meta.DONT_RETRY] = True
    flags = list(CACHED_FLAGS)
    # Of a class with texts and selectors, as pages of errors have.
    url = without_fragment(request.url)
    return TextResponse(url, status=status, flags=flags, encoding="utf-8", request=request)


def as_cached(response: Response) -> Response:
    """Return a response of the site with the flags of a hit: the cache had its image already."""
    return response.replace(flags=[*response.flags, *CACHED_FLAGS])


def response_info(url: str, response: Response, accept: str | None) -> ResponseInfo:
    """Return what the site said in a response.

    Args:
        url: the URL that was asked for.
        response: the response, after redirects.
        accept: the header `Accept` of the request.
    """
    names = set(response.headers)
    headers = {
        _KEPT[name]: [value.decode("latin-1") for value in response.headers.getlist(name)]
        for name in _KEPT
        if name in names
    }
    final_url = None if is_data_url(response.url) else response.url
    return ResponseInfo.of(url, headers, final_url, accept)


def _encoded(value: str) -> bytes:
    try:
        return value.encode("latin-1")
    except UnicodeEncodeError:
        return value.encode()


def is_from_cache(response: Response) -> bool:
    """Return whether the response came from our cache; `cached` alone may come from HttpCache."""
    return "imgcache" in response.flags
