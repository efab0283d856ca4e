"""Prune: keep a cache small by removing the images that were not used for the longest time."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from typing import NamedTuple

from imgcache_scrapy.core.batches import batches
from imgcache_scrapy.core.times import microseconds
from imgcache_scrapy.engine.cache import ImageCache
from imgcache_scrapy.engine.catalog.last_use import Rule, Unused
from imgcache_scrapy.engine.catalog.rows import today

# Each page reads all rows of images, so pages are large.
_PAGE_SIZE = 5000
# The images of one write transaction: other writers wait for it.
_BATCH_SIZE = 100


class Pruned(NamedTuple):
    """What a part of the work removed, or would remove.

    Attributes:
        images: the number of images.
        size: their size in bytes.
    """

    images: int
    size: int


def prune(
    cache: ImageCache,
    *,
    max_bytes: int | None = None,
    unused_for: timedelta | None = None,
    older_than: timedelta | None = None,
    dry_run: bool = False,
) -> Iterator[Pruned]:
    """Remove images with all their captures, the least recently used first.

    An image goes if one of the rules says so. Images that were used today stay always. Crawls may
    go on meanwhile.

    Args:
        cache: the cache.
        max_bytes: remove images until all together have at most this size in bytes.
        unused_for: remove images that were not used for this time, in whole days.
        older_than: remove images that were not fetched for this time.
        dry_run: remove nothing.

    Yields:
        What was removed, batch by batch.

    Raises:
        ReadOnlyError: the cache can only be read.
        UnavailableError: the catalog or the storage fails.
    """
    rule = Rule(
        None if unused_for is None else today() - unused_for.days,
        None if older_than is None else microseconds(datetime.now(UTC) - older_than),
    )
    total = cache.catalog.total_bytes()
    if any(limit is not None for limit in rule):
        for batch in _batches(cache, rule, meets=True):
            pruned = _remove(cache, batch, dry_run=dry_run)
            total -= pruned.size
            yield pruned
    if max_bytes is None or total <= max_bytes:
        return
    for batch in _batches(cache, rule, meets=False):
        pruned = _remove(cache, _first_of_size(batch, total - max_bytes), dry_run=dry_run)
        total -= pruned.size
        yield pruned
        if total <= max_bytes:
            return


def _batches(cache: ImageCache, rule: Rule, *, meets: bool) -> Iterator[list[Unused]]:
    """Yield the images that meet a rule, or the others, the least recently used first."""
    last: Unused | None = None
    while page := cache.catalog.unused(_PAGE_SIZE, last, rule, meets=meets):
        yield from batches(page, _BATCH_SIZE)
        last = page[-1]


def _first_of_size(images: Sequence[Unused], size: int) -> Sequence[Unused]:
    """Return the first images that together have at least a size; all if they have less."""
    for count, total in enumerate(accumulate(each.size for each in images), 1):
        if total >= size:
            return images[:count]
    return images


def _remove(cache: ImageCache, images: Sequence[Unused], *, dry_run: bool) -> Pruned:
    """Remove images, except those that were used meanwhile."""
    sizes = {each.content_hash: each.size for each in images}
    gone = sizes if dry_run else cache.delete_unused(sizes)
    return Pruned(len(gone), sum(sizes[name] for name in gone))
