"""Decide which requests the cache must not be used for."""

from scrapy import Request

from imgcache_scrapy.core.keys import has_user
from imgcache_scrapy.plugin import meta


def is_plain_get(request: Request) -> bool:
    """Return whether the URL says what a request asks for: it is a GET without a body."""
    return request.method == "GET" and not request.body


def bypasses_cache(request: Request) -> bool:
    """Return whether the cache must not be used for this request.

    What a user and a password give is private, unless the request says that the cache may have it.
    """
    is_private = has_user(request.url) and not request.meta.get(meta.CACHE)
    is_whole = is_plain_get(request) and b"Range" not in request.headers
    is_ours = meta.REPEATED in request.meta
    dont_cache = bool(request.meta.get(meta.DONT_CACHE)) and not is_ours
    is_forbidden = dont_cache or request.meta.get(meta.CACHE) is False
    return not is_whole or is_forbidden or is_private
