"""BlockedImage and BlockedSource: what the cache does not take."""

from contextlib import suppress
from typing import Literal, NamedTuple, TypedDict

from imgcache_scrapy.core.errors import InvalidRequestError
from imgcache_scrapy.core.keys import cache_key
from imgcache_scrapy.core.urls import host_of


class BlockedImage(TypedDict):
    """A blocked image, for example a placeholder.

    Attributes:
        content_hash: BLAKE2b-256 of its bytes, 64 hex digits.
        reason: why it is blocked, as the user said; may be empty.
        created_at: when it was blocked first, ISO 8601, UTC.
    """

    content_hash: str
    reason: str
    created_at: str


class BlockedSource(TypedDict):
    """A blocked host or a blocked URL: crawls do not ask it for images.

    Attributes:
        content_hash: None, because it is no image.
        host: the host; None if it is a URL.
        url: the cache key of the URL; None if it is a host.
        reason: why it is blocked; may be empty.
        created_at: when it was blocked first, ISO 8601, UTC.
    """

    content_hash: None
    host: str | None
    url: str | None
    reason: str
    created_at: str


class Source(NamedTuple):
    """A host, or the URL of an image.

    Attributes:
        kind: which of both.
        value: the host in lower case, or the cache key of the URL.
    """

    kind: Literal["host", "url"]
    value: str


def sources_of(url: str, key: str, final_url: str | None = None) -> set[Source]:
    """Return the hosts and URLs that an image comes from; it is blocked if one of them is.

    Args:
        url: its URL.
        key: the cache key of the URL.
        final_url: the URL to which redirects led; None if there were none.
    """
    found = {Source("host", host_of(url)), Source("url", key)}
    if final_url is not None:
        found.add(Source("host", host_of(final_url)))
        with suppress(InvalidRequestError):
            found.add(Source("url", cache_key(final_url)))
    return found
