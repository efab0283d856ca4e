"""Fetched, Stored and UrlsFound: what `fetch` and the calls of a crawl to its cache return."""

from typing import Literal, NamedTuple

from imgcache_scrapy.core.entry import Entry
from imgcache_scrapy.core.failures import Failure
from imgcache_scrapy.core.image_url import ImageUrl

FetchStatus = Literal["cached", "downloaded", "duplicate"]


class Fetched(NamedTuple):
    """The result of `fetch`.

    Attributes:
        data: the bytes of the image.
        entry: its entry; `stale`, `changed`, `previous_content_hash` and `distance` are in it as in
            the results of a crawl.
        status: `cached`, `downloaded`, or `duplicate`: downloaded, but the bytes were known.
    """

    data: bytes
    entry: Entry
    status: FetchStatus


class Stored(NamedTuple):
    """The result of a store.

    Attributes:
        entry: the entry of the image; it has no `created` if the image is in the spool.
        is_spooled: whether the image is in the spool, not in the cache.
    """

    entry: Entry
    is_spooled: bool


class UrlsFound(NamedTuple):
    """The result of lookups.

    Attributes:
        entries: the entries of the URLs that are in the cache or in the spool.
        failures: the remembered failures of other URLs.
        blocked: the URLs that are blocked, or whose host is blocked.
    """

    entries: dict[ImageUrl, Entry]
    failures: dict[ImageUrl, Failure]
    blocked: frozenset[ImageUrl] = frozenset()
