"""Copy a cache into another one, between folders, databases with blobs, and from a service."""

from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager

from imgcache_scrapy.cli.transfer.places import Place
from imgcache_scrapy.cli.transfer.service_source import open_service
from imgcache_scrapy.core.errors import ConfigurationError
from imgcache_scrapy.engine.copy_source import CacheSource, CopySource
from imgcache_scrapy.engine.copying import COUNTS, Callbacks, Copy

__all__ = ["COUNTS", "Callbacks", "Place", "copy_images"]


def copy_images(
    src: Place | str,
    dst: Place | str,
    *,
    token: str | None = None,
    dry_run: bool = False,
    callbacks: Callbacks | None = None,
) -> Counter[str]:
    """Copy a cache into another one; what is there already is not copied again.

    Crawls may use both caches meanwhile. Nothing is deleted in the copy. What the copy blocks by
    itself is not copied.

    Args:
        src: the cache to copy from: its address, or a `Place`.
        dst: the copy, which is created if there is none; no service.
        token: the bearer token if `src` is a service.
        dry_run: whether to count only; the bytes of images are not read.
        callbacks: what the copy calls; None for nothing.

    Returns:
        The numbers that `COUNTS` names.

    Raises:
        ConfigurationError: a place is not valid, there is no cache, or both are the same.
        ImgCacheError: one of the caches fails. What was copied before stays.
    """
    source_place, place = (Place(each) if isinstance(each, str) else each for each in (src, dst))
    if place.is_service:
        raise ConfigurationError(
            f"a service cannot be the copy: instead of {place}, name its database and its blobs by"
            " --dst-database and --dst-blobs, or its folder"
        )
    if not source_place.is_service and source_place.is_same(place):
        raise ConfigurationError(f"{place} is the cache itself: name another place for the copy")
    with _open(source_place, token) as source:
        if dry_run:
            with closing(place.open_catalog()) as catalog:
                return _run(Copy(source, catalog, None, callbacks or Callbacks()))
        with closing(place.open(create=True)) as target:
            return _run(Copy(source, target.catalog, target, callbacks or Callbacks()))


def _run(copy: Copy) -> Counter[str]:
    with closing(copy):
        return copy.run()


@contextmanager
def _open(place: Place, token: str | None) -> Iterator[CopySource]:
    if place.is_service and place.address is not None:
        with open_service(place.address, token) as service:
            yield service
    else:
        with closing(place.open(create=False)) as cache:
            yield CacheSource(cache)
