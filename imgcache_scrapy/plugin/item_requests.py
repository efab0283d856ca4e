"""Create the requests for the image URLs of an item."""

from typing import Any

from scrapy import Request
from scrapy.http.request import NO_CALLBACK

from imgcache_scrapy.core.errors import InvalidRequestError
from imgcache_scrapy.core.urls import fetchable
from imgcache_scrapy.plugin import meta


class BadUrlRequest(Request):
    """Represents an image URL that cannot be requested; it is never sent.

    Hooks of a pipeline see it among the other requests and may change or replace it.

    Args:
        item_url: the URL as the item has it.
        reason: why it cannot be requested.
    """

    # The attributes that `replace` copies.
    attributes = (*Request.attributes, "item_url", "reason")

    def __init__(self, *args: Any, item_url: str, reason: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.item_url = item_url
        self.reason = reason


def item_request(url: object) -> Request:
    """Create the request for an image URL of an item.

    Args:
        url: the value in the item.

    Returns:
        The request; a `BadUrlRequest` if the URL cannot be requested.
    """
    try:
        return Request(fetchable(url), callback=NO_CALLBACK, meta={meta.ITEM_URL: url})
    except (InvalidRequestError, ValueError) as error:
        text = url if isinstance(url, str) else repr(url)
        # The URL of a request must have a scheme; this one is never sent.
        return BadUrlRequest(
            "about:invalid", callback=NO_CALLBACK, item_url=text, reason=str(error)
        )


def item_url(request: Request) -> str:
    """Return the URL of a request as the item has it."""
    if isinstance(request, BadUrlRequest):
        return request.item_url
    return str(request.meta.get(meta.ITEM_URL, request.url))
