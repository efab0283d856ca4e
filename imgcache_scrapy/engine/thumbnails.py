"""Thumbnails: made when they are first asked for, and kept beside the blobs.

A thumbnail goes with its image. `BlobStore.delete_many` removes it after the row of the image is
deleted, and the maker of a thumbnail looks for the row again after it has kept the thumbnail. Only
a crash between the two leaves one, and `imgcache gc` removes it. A blocked image has no thumbnail.
"""

from collections import OrderedDict
from contextlib import suppress
from threading import Lock

from imgcache_scrapy.core.blocked import BlockedImage
from imgcache_scrapy.core.entry import thumbnail_key
from imgcache_scrapy.core.errors import (
    ImgCacheError,
    NotFoundError,
    UnavailableError,
    not_found,
    without_bytes,
)
from imgcache_scrapy.engine.blobs.thumbnails import DEFAULT_MAX_BYTES, Kept, KeptThumbnails
from imgcache_scrapy.engine.cache import ImageCache
from imgcache_scrapy.engine.decoding.messages import NOT_DECODED, DecodeError
from imgcache_scrapy.engine.decoding.thumbnails import ThumbnailMaker
from imgcache_scrapy.engine.late_decoding import MAX_ATTEMPTS
from imgcache_scrapy.engine.location import size_in_environment

_VARIABLE = "IMGCACHE_MAX_THUMBNAIL_BYTES"
# How many images without a thumbnail a process remembers, also where nothing can be kept.
_MAX_REMEMBERED = 10_000
_REASONS = {
    DecodeError.FORMAT: "its format is not decoded",
    DecodeError.BROKEN: "the picture is broken",
    DecodeError.TOO_LARGE: "the picture has too many pixels",
    DecodeError.TOO_SLOW: "it takes too long to decode the picture",
    DecodeError.TOO_MUCH_MEMORY: "it takes too much memory to decode the picture",
    DecodeError.CRASHED: "the picture crashes its decoder",
    DecodeError.TIMEOUT: "it takes too long to decode the picture",
}


class Thumbnails:
    """Finds and makes the thumbnails of a cache; any number of threads may use it.

    Raises:
        ConfigurationError: the variable `IMGCACHE_MAX_THUMBNAIL_BYTES` is not a size.
    """

    def __init__(self) -> None:
        self._kept = KeptThumbnails(max_thumbnail_bytes())
        self._maker = ThumbnailMaker()
        # The number of attempts, or why there is no thumbnail; the one used last is the last.
        self._remembered: OrderedDict[str, int | DecodeError] = OrderedDict()
        self._lock = Lock()

    def find(self, cache: ImageCache, content_hash: str, bucket: str | None = None) -> bytes | None:
        """Find a thumbnail that was made before.

        Args:
            cache: the cache.
            content_hash: the hash of the image.
            bucket: the bucket of the image; None for all buckets.

        Returns:
            A WebP; None if it must be made.

        Raises:
            NotFoundError: the image is not in the bucket, or is damaged or blocked, or no
                thumbnail of it can be made.
            UnavailableError: the catalog or the storage fails.
        """
        _check_source(cache, content_hash, bucket)
        remembered = self._remembered.get(content_hash)
        if isinstance(remembered, DecodeError):
            raise _without_thumbnail(content_hash, remembered)
        kept = self._kept.get(cache.blobs, content_hash)
        if kept is not None and kept.error is not None:
            raise _without_thumbnail(content_hash, kept.error)
        return kept and kept.thumbnail

    def make(self, cache: ImageCache, content_hash: str) -> bytes:
        """Make a thumbnail, and keep it if the cache can be written.

        Returns:
            A WebP.

        Raises:
            NotFoundError: as `find`.
            UnavailableError: the catalog or the storage fails; or the decoder did not answer, so
                that a later call may make the thumbnail.
        """
        data, _ = cache.get_image(content_hash)
        info = self._maker.make(data)
        if info == NOT_DECODED:
            self._count_attempt(content_hash)
            raise UnavailableError("the decoder made no thumbnail in time: try again later")
        if info.decode_error is not None:
            self._remember(content_hash, info.decode_error)
        self._keep(cache, content_hash, Kept(info.thumbnail, info.decode_error))
        if info.decode_error is not None:
            raise _without_thumbnail(content_hash, info.decode_error)
        return info.thumbnail

    def close(self) -> None:
        """Stop the child processes."""
        self._maker.close()

    def _keep(self, cache: ImageCache, content_hash: str, kept: Kept) -> None:
        if not cache.catalog.is_read_only:
            with suppress(ImgCacheError):  # It is shown all the same.
                self._kept.put(cache.blobs, content_hash, kept)
        try:
            # Again, because the image may have been deleted or blocked meanwhile.
            _check_source(cache, content_hash)
        except ImgCacheError:
            remove_thumbnail(cache, content_hash)
            raise

    def _count_attempt(self, content_hash: str) -> None:
        """Count an attempt without an answer; after some, this process does not try it again.

        The storage does not remember it, because the machine may be the reason.
        """
        before = self._remembered.get(content_hash, 0)
        attempts = before + 1 if isinstance(before, int) else MAX_ATTEMPTS
        self._remember(content_hash, DecodeError.TIMEOUT if attempts >= MAX_ATTEMPTS else attempts)

    def _remember(self, content_hash: str, value: int | DecodeError) -> None:
        with self._lock:
            self._remembered[content_hash] = value
            self._remembered.move_to_end(content_hash)
            if len(self._remembered) > _MAX_REMEMBERED:
                self._remembered.popitem(last=False)


def remove_thumbnail(cache: ImageCache, content_hash: str) -> None:
    """Remove the thumbnail of an image, if it has one.

    Raises:
        UnavailableError: the storage fails.
    """
    if not cache.catalog.is_read_only:
        cache.blobs.discard(thumbnail_key(content_hash))


def block_image(cache: ImageCache, content_hash: str, reason: str, actor: str) -> BlockedImage:
    """Block an image, and remove its thumbnail; see `Catalog.block`."""
    blocked = cache.catalog.block(content_hash, reason, actor)
    # Without it, the thumbnail would stay until the next `imgcache gc`; it is not shown any more.
    with suppress(ImgCacheError):
        remove_thumbnail(cache, content_hash)
    return blocked


def _check_source(cache: ImageCache, content_hash: str, bucket: str | None = None) -> None:
    source = cache.catalog.thumbnail_source(content_hash, bucket)
    if source is None:
        raise not_found(content_hash, bucket)
    if source.is_blocked:
        raise NotFoundError(f"the image {content_hash} is blocked, so it has no thumbnail")
    if source.is_damaged:
        raise without_bytes(content_hash)
    if source.decode_error is not None:
        raise _without_thumbnail(content_hash, DecodeError(source.decode_error))


def _without_thumbnail(content_hash: str, error: DecodeError) -> NotFoundError:
    return NotFoundError(f"the image {content_hash} has no thumbnail: {_REASONS[error]}")


def max_thumbnail_bytes() -> int:
    """Return the bound of all kept thumbnails together, from the environment.

    Raises:
        ConfigurationError: the variable `IMGCACHE_MAX_THUMBNAIL_BYTES` is not a size.
    """
    return size_in_environment(_VARIABLE, DEFAULT_MAX_BYTES)
