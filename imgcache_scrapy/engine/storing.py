"""Store images and record captures: blobs first, then rows, in one write transaction."""

from collections.abc import Collection, Container, Mapping, Sequence
from typing import Protocol

from imgcache_scrapy.core.blocked import Source
from imgcache_scrapy.core.entry import Entry
from imgcache_scrapy.core.errors import BlockedError, StoreFailedError, blocked, blocked_source
from imgcache_scrapy.engine.blobs.store import BlobStore
from imgcache_scrapy.engine.catalog.catalog import Catalog
from imgcache_scrapy.engine.decoding.decoders import Decoders
from imgcache_scrapy.engine.description import image_of
from imgcache_scrapy.engine.store_request import ClaimRequest, StoreRequest


class Stores(Protocol):
    """What a store needs of an `ImageCache`."""

    catalog: Catalog
    decoders: Decoders

    @property
    def blobs(self) -> BlobStore:
        """The blobs."""

    def delete_orphan(self, content_hash: str) -> bool:
        """Delete a blob if its image has no row."""


class _BlockedSources(Protocol):
    """Where blocked hosts and URLs are looked up: a catalog, or a transaction."""

    def may_block_sources(self) -> bool:
        """Return whether any host or URL is blocked."""

    def blocked_sources_among(self, sources: Collection[Source]) -> set[Source]:
        """Return which of these hosts and URLs are blocked."""


def store_many(
    cache: Stores, requests: Sequence[StoreRequest | ClaimRequest]
) -> list[Entry | StoreFailedError | BlockedError | None]:
    """Store images and record captures; see `ImageCache.store_many`."""
    cache.catalog.check_writable()
    held = _held(requests, cache.catalog)
    allowed = [each for each in requests if each not in held]
    results = dict(zip(allowed, _store_allowed(cache, allowed), strict=True))
    return [held[each] if each in held else results[each] for each in requests]


def _store_allowed(
    cache: Stores, requests: Sequence[StoreRequest | ClaimRequest]
) -> list[Entry | StoreFailedError | BlockedError | None]:
    """Store images and record captures whose URLs and hosts are not blocked."""
    hashes = {each.content_hash for each in requests}
    blobs = {each.content_hash: each.data for each in requests if isinstance(each, StoreRequest)}
    failed: dict[str, StoreFailedError | BlockedError] = {
        name: blocked(name) for name in cache.catalog.blocked_among(hashes)
    }
    blobs = _without(blobs, failed)
    images = cache.catalog.images(hashes)
    new = {name: data for name, data in blobs.items() if name not in images}
    decoded = cache.decoders.decode_quick(list(new.values()))
    images |= {
        name: image_of(name, data, info)
        for (name, data), info in zip(new.items(), decoded, strict=True)
    }
    # Written before the transaction, so that other writers wait less.
    failed |= cache.blobs.put_many(new)
    blobs = _without(blobs, failed)
    # What is not in the catalog cannot be claimed: no other writer has to wait for that.
    names = (hashes & images.keys()) - failed.keys()
    if not names:
        return [failed.get(each.content_hash) for each in requests]
    with cache.catalog.exclusive(names) as transaction:
        # Meanwhile the image may have been blocked, and its blob deleted or found damaged.
        late = transaction.blocked
        failed |= {name: blocked(name) for name in late}
        blobs, names = _without(blobs, late), names - late
        sizes = cache.blobs.sizes(names)
        failed |= cache.blobs.put_many(
            {
                name: data
                for name, data in blobs.items()
                if transaction.is_damaged(name) or sizes[name] != len(data)
            }
        )
        images = {name: images[name] for name in blobs if name not in failed} | {
            name: image
            for name in names - blobs.keys()
            if (image := transaction.sound_image(name)) is not None
            and sizes[name] == image.file_size_bytes
        }
        held = _held(requests, transaction)
        recorded = [each for each in requests if each.content_hash in images and each not in held]
        entries = iter(
            transaction.record([(images[each.content_hash], each.capture) for each in recorded])
        )
    for name in late | {each.content_hash for each in held}:
        cache.delete_orphan(name)
    return [
        held[each]
        if each in held
        else next(entries)
        if each.content_hash in images
        else failed.get(each.content_hash)
        for each in requests
    ]


def _held(
    requests: Collection[StoreRequest | ClaimRequest], rules: _BlockedSources
) -> dict[StoreRequest | ClaimRequest, BlockedError]:
    """Return the errors of the requests whose image comes from a blocked host or URL."""
    if not rules.may_block_sources():
        return {}
    found = rules.blocked_sources_among(set().union(*(each.sources for each in requests)))
    return {
        each: blocked_source(*min(each.sources & found))
        for each in requests
        if not each.sources.isdisjoint(found)
    }


def _without(blobs: Mapping[str, bytes], names: Container[str]) -> dict[str, bytes]:
    return {name: data for name, data in blobs.items() if name not in names}
