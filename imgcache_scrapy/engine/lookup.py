"""Look up URLs: a hit has bytes, as far as this can be told without reading them."""

import logging
from collections.abc import Collection, Mapping
from typing import NamedTuple

from imgcache_scrapy.core.blocked import Source
from imgcache_scrapy.core.entry import Entry
from imgcache_scrapy.core.errors import ImgCacheError, UnavailableError
from imgcache_scrapy.core.failures import Failure
from imgcache_scrapy.core.urls import host_of
from imgcache_scrapy.engine.cache import ImageCache
from imgcache_scrapy.engine.catalog.database import database_call
from imgcache_scrapy.engine.lost import lost_blobs

logger = logging.getLogger(__name__)


class LookupResult(NamedTuple):
    """The result of a lookup.

    Attributes:
        entries: the entries by key.
        lost: the images whose blobs are lost, with their sizes in bytes: see `mark_lost`.
        failures: the remembered failures, by URL.
        blocked: which of the keys and the URLs are blocked, or are of a blocked host.
    """

    entries: dict[str, Entry]
    lost: dict[str, int]
    failures: Mapping[str, Failure] = {}
    blocked: frozenset[str] = frozenset()


def lookup_many(
    cache: ImageCache,
    keys: Collection[str],
    bucket: str | None,
    accept: str | None = None,
    urls: Collection[str] = (),
) -> LookupResult:
    """Return the newest capture of each key whose image is sound; see `Catalog.lookup_many`.

    For `urls` that are no keys of found captures, the failures in the bucket are returned, too;
    if no bucket is named, those of the bucket in which they are remembered by default. If
    there are `urls`, the answer says which URLs and keys are blocked.

    If the blobs are files, an image without its blob is left out. It is not marked, because a
    reader must not wait for writers.
    """
    lost: dict[str, int] = {}
    while True:
        entries = cache.catalog.lookup_many(keys, bucket, lost, accept)
        found = _lost(cache, entries)
        if not found:
            break
        lost |= found
    missing = [url for url in urls if url not in entries]
    failures = cache.catalog.failures_of(missing, bucket or "") if missing else {}
    blocked = frozenset[str]()
    if urls and cache.catalog.may_block_sources():
        blocked = _blocked(cache, keys, urls)
    return LookupResult(entries, lost, failures, blocked)


def _blocked(cache: ImageCache, keys: Collection[str], urls: Collection[str]) -> frozenset[str]:
    hosts = {url: Source("host", host_of(url)) for url in urls}
    of_keys = {key: Source("url", key) for key in keys}
    found = cache.catalog.blocked_sources_among({*hosts.values(), *of_keys.values()})
    return frozenset(
        each for asked in (hosts, of_keys) for each, source in asked.items() if source in found
    )


@database_call
def mark_lost(cache: ImageCache, lost: Mapping[str, int]) -> None:
    """Mark images as damaged whose blobs are lost, so that every query leaves them out."""
    try:
        with cache.catalog.exclusive(lost) as transaction:
            # A delete or a store may have run since the lookup.
            still_lost = [
                name for name in lost_blobs(cache.blobs, lost) if transaction.has_image(name)
            ]
            if still_lost:
                cache.check_blobs()
            for name in still_lost:
                transaction.mark_damaged(name)
    except ImgCacheError as error:
        logger.debug("Lost images could not be marked: %s", error)


def _lost(cache: ImageCache, entries: Mapping[str, Entry]) -> dict[str, int]:
    blobs = cache.paired_blobs
    if blobs is None or not blobs.has_fast_sizes:
        return {}
    sizes = {each["content_hash"]: each["file_size_bytes"] for each in entries.values()}
    lost = {name: sizes[name] for name in lost_blobs(blobs, sizes)}
    try:
        if lost:
            cache.check_blobs()
    except UnavailableError:
        # Lookups must work while the blobs cannot be reached.
        return {}
    return lost
