"""Create the requests for the image URLs of an item."""

import json

from scrapy import Request
from scrapy.http.request import NO_CALLBACK

from imgcache_scrapy.core.errors import InvalidRequestError
from imgcache_scrapy.core.urls import fetchable
from imgcache_scrapy.plugin import meta

# A request must have a URL with a scheme. A request with this one is never sent.
_BAD_URL = "about:invalid"


def item_request(url: object) -> Request:
    """Create the request for an image URL of an item.

    Args:
        url: the value in the item.

    Returns:
        The request. For a URL that cannot be requested it is one that is never sent: see
        `bad_url_reason`.
    """
    try:
        return Request(fetchable(url), callback=NO_CALLBACK, meta={meta.ITEM_URL: url})
    except (InvalidRequestError, ValueError) as error:
        text = url if isinstance(url, str) else repr(url)
        # The reason is in the body, because hooks of a pipeline may replace everything else: the
        # meta, the class of the request, or the request by a new one with the same URL and body.
        return Request(_BAD_URL, body=json.dumps([text, str(error)]), callback=NO_CALLBACK)


def bad_url_reason(request: Request) -> str | None:
    """Return why a request cannot be sent; None if it can."""
    return json.loads(request.body)[1] if _is_bad(request) else None


def item_url(request: Request) -> str:
    """Return the URL of a request as the item has it."""
    if _is_bad(request):
        return str(json.loads(request.body)[0])
    return str(request.meta.get(meta.ITEM_URL, request.url))


def _is_bad(request: Request) -> bool:
    # A user may request the same URL, but without a body.
    return request.url == _BAD_URL and bool(request.body)
