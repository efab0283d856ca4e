"""Chains of redirects: know the URL that a redirected request was first asked for."""

from scrapy import Request

from imgcache_scrapy.plugin import meta


def continue_chain(request: Request, first_url: str) -> None:
    """Remember that a chain has reached a request; redirects copy its meta."""
    request.meta[meta.CHAIN] = [first_url, request.url]


def is_in_chain(request: Request) -> bool:
    """Return whether the middleware has seen this request, or the one that was redirected to it."""
    if meta.CHAIN not in request.meta:
        return False
    # A spider may have copied the meta of another response: that is not a redirect chain.
    came_from = [request.url, *request.meta.get(meta.REDIRECT_URLS, [])[-1:]]
    return request.meta[meta.CHAIN][1] in came_from


def first_url_of(request: Request, url: str) -> str:
    """Return the URL of the first request in the chain of redirects that led to this one.

    Args:
        request: the request.
        url: what to return if the request is in no chain.
    """
    return str(request.meta[meta.CHAIN][0]) if is_in_chain(request) else url
