"""Compute the cache key of a URL."""

from imgcache_scrapy.core.urls import request_url


def cache_key(url: str) -> str:
    """Compute the cache key of a URL; it is replaced by the branch with the presets."""
    return request_url(url)


def is_default_key(key: str) -> bool:
    """Return whether a key is the default key of itself, so that a service need not be told it."""
    return cache_key(key) == key
