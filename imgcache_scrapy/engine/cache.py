"""ImageCache: the rules of the cache, over a catalog, blobs and a decoder."""

import functools
import os
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ParamSpec, Self, TypeVar

from sqlalchemy import exc
from sqlalchemy.engine import URL

from imgcache_scrapy.core.entry import MAX_IMAGE_BYTES, UNKNOWN_TYPE, Entry, content_hash_of
from imgcache_scrapy.core.errors import (
    InvalidRequestError,
    NotFoundError,
    TooLargeError,
    UnavailableError,
)
from imgcache_scrapy.core.formats import sniff
from imgcache_scrapy.core.urls import filename_of
from imgcache_scrapy.engine.blobs.files import open_blobs
from imgcache_scrapy.engine.catalog.catalog import Catalog
from imgcache_scrapy.engine.catalog.rows import Capture, Image
from imgcache_scrapy.engine.decoding.decoder import Decoders, Facts

P = ParamSpec("P")
T = TypeVar("T")

# Where `imgcache serve` keeps its cache when told nothing else.
DEFAULT_FOLDER = Path("imgcache")


@dataclass(frozen=True, eq=False)
class Store:
    """An image to be kept, and how it was seen; made by `Store.of`."""

    capture: Capture
    data: bytes

    @classmethod
    def of(
        cls,
        url: str,
        data: bytes,
        client_name: str,
        *,
        bucket: str = "",
        lookup_time: datetime | None = None,
        filename: str | None = None,
    ) -> Self:
        """Check what is to be stored.

        Args:
            url: the cache key of the URL.
            data: the bytes, as they came.
            client_name: who stores.
            bucket: the name space of the capture.
            lookup_time: when the image was fetched, now by default; naive times are UTC.
            filename: a hint; the last part of the URL's path by default.

        Raises:
            InvalidRequestError: there are no bytes.
            TooLargeError: there are more than `MAX_IMAGE_BYTES`.
        """
        if not data:
            raise InvalidRequestError("an image must not be empty")
        if len(data) > MAX_IMAGE_BYTES:
            raise TooLargeError(f"an image must not be larger than {MAX_IMAGE_BYTES} bytes")
        name = filename or filename_of(url)
        return cls(Capture(url, bucket, client_name, name, _utc(lookup_time)), data)


def on_catalog(call: Callable[P, T]) -> Callable[P, T]:
    """Have a call on the catalog say `UnavailableError` where the database fails.

    Where a connection died in the middle, as when the database was restarted, it is made once
    more: a transaction that was not committed has left nothing, and one that was is harmless when
    repeated.
    """

    @functools.wraps(call)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            try:
                return call(*args, **kwargs)
            except exc.DBAPIError as error:
                if not error.connection_invalidated:
                    raise
                return call(*args, **kwargs)
        except (exc.DBAPIError, exc.TimeoutError) as error:
            # Not the statement, nor the details: they may hold URLs.
            reason = str(getattr(error, "orig", error)).strip().split("\n", 1)[0]
            raise UnavailableError(f"the catalog failed: {reason}") from error

    return guarded


class ImageCache:
    """A cache of images, for any number of threads; every method blocks.

    Args:
        database_url: where the catalog is, as SQLAlchemy writes it.
        blobs_url: where the bytes are, `file:///folder` or what obstore knows.

    Raises:
        ConfigurationError: the catalog is of a newer version.
        UnavailableError: the catalog or the blobs cannot be reached; from every method.
    """

    def __init__(self, database_url: str | URL, blobs_url: str) -> None:
        self._catalog = on_catalog(Catalog)(database_url)
        self._blobs = open_blobs(blobs_url)
        self._decoders = Decoders()

    @classmethod
    def in_folder(cls, folder: Path) -> Self:
        """Open the cache in a folder, created when missing.

        Args:
            folder: holds `catalog.sqlite3` and `blobs/`; the environment's
                `IMGCACHE_DATABASE_URL` and `IMGCACHE_BLOBS_URL` replace either half.

        Raises:
            ConfigurationError: the catalog is of a newer version.
            UnavailableError: it cannot be opened.
        """
        database_url = os.environ.get("IMGCACHE_DATABASE_URL")
        blobs_url = os.environ.get("IMGCACHE_BLOBS_URL")
        try:
            if not (database_url and blobs_url):
                folder.mkdir(parents=True, exist_ok=True)
            return cls(
                database_url or URL.create("sqlite", database=str(folder / "catalog.sqlite3")),
                blobs_url or (folder / "blobs").absolute().as_uri(),
            )
        except OSError as error:
            raise UnavailableError(f"the cache in {folder} cannot be opened: {error}") from error

    def store(self, url: str, data: bytes, client_name: str, **options: Any) -> Entry:
        """Keep one image; the arguments are those of `Store.of`, the rest as in `store_many`."""
        return self.store_many([Store.of(url, data, client_name, **options)])[0]

    @on_catalog
    def store_many(self, stores: Sequence[Store]) -> list[Entry]:
        """Keep images and the URLs that led to them; they are durable when this returns.

        All or, where the catalog or the storage fails, none of them.

        Returns:
            The entry of each, with `created`: whether the image is new.
        """
        hashes = [content_hash_of(store.data) for store in stores]
        blobs = {name: store.data for name, store in zip(hashes, stores, strict=True)}
        images = self._catalog.images(blobs)
        new = {name: data for name, data in blobs.items() if name not in images}
        facts = self._decoders.facts_of_many(list(new.values()))
        images |= {
            name: _examined(name, data, found)
            for (name, data), found in zip(new.items(), facts, strict=True)
        }
        # Before the transaction, so that it need not hold others up.
        self._blobs.put_many(new)
        with self._catalog.exclusive(blobs) as writing:
            # A delete may have come between, or damage been found.
            sizes = self._blobs.sizes(blobs)
            self._blobs.put_many(
                {
                    name: data
                    for name, data in blobs.items()
                    if writing.is_damaged(name) or sizes[name] != len(data)
                }
            )
            return writing.record(
                [(images[name], store.capture) for name, store in zip(hashes, stores, strict=True)]
            )

    def get_bytes(self, content_hash: str, bucket: str = "") -> tuple[bytes, str]:
        """Read an image, checked against its hash; damage that is found is noted.

        Returns:
            The bytes and their content type.

        Raises:
            NotFoundError: not in this bucket, or its bytes are missing or damaged.
        """
        content_type = self.content_type(content_hash, bucket)
        if content_type is None:
            raise NotFoundError(f"no image {content_hash} here")
        data = self._sound_bytes(content_hash)
        if data is None:
            data = self._second_look(content_hash)
        return data, content_type

    @on_catalog
    def content_type(self, content_hash: str, bucket: str = "") -> str | None:
        """Tell the type of an image; None where it is not in this bucket, or damaged."""
        return self._catalog.content_type(content_hash, bucket)

    def _sound_bytes(self, content_hash: str) -> bytes | None:
        data = self._blobs.get(content_hash)
        return data if data is not None and content_hash_of(data) == content_hash else None

    @on_catalog
    def _second_look(self, content_hash: str) -> bytes:
        # Within the lock, since a delete and a store may have run beside the first look.
        with self._catalog.exclusive([content_hash]) as writing:
            data = self._sound_bytes(content_hash)
            if data is None:
                writing.mark_damaged(content_hash)
        if data is None:
            raise NotFoundError(f"the bytes of image {content_hash} are missing or damaged")
        return data

    @on_catalog
    def get_meta(self, content_hash: str, bucket: str = "") -> Entry | None:
        """Find the newest capture of an image, None where there is none or it is damaged."""
        return self._catalog.newest_of_image(content_hash, bucket)

    @on_catalog
    def lookup(self, urls: Collection[str], bucket: str | None = None) -> dict[str, Entry]:
        """Find the newest capture of each URL: URL to entry, hits only."""
        return self._catalog.newest(urls, bucket)

    @on_catalog
    def search(
        self, url_contains: str, bucket: str | None = None, limit: int | None = None
    ) -> list[Entry]:
        """Find captures by a part of their URL: one entry per URL, newest first."""
        return self._catalog.search(url_contains, bucket, limit)

    @on_catalog
    def similar(
        self,
        perceptual_hash: int,
        max_distance: int,
        bucket: str | None = None,
        limit: int | None = None,
    ) -> list[Entry]:
        """Find look-alikes: one entry per image, with its distance, nearest first."""
        return self._catalog.similar(perceptual_hash, max_distance, bucket, limit)

    def delete(self, content_hash: str, bucket: str = "") -> None:
        """Forget a bucket's captures of an image; with the last one the image and its bytes.

        Raises:
            NotFoundError: this bucket has no capture of it.
        """
        if not self._delete_captures(content_hash, bucket):
            raise NotFoundError(f"no image {content_hash} here")
        # The row is gone for good before its blob goes; a store may have come between.
        self._delete_orphan(content_hash)

    @on_catalog
    def _delete_captures(self, content_hash: str, bucket: str) -> int:
        with self._catalog.exclusive([content_hash]) as writing:
            return writing.delete_captures(content_hash, bucket)

    @on_catalog
    def _delete_orphan(self, content_hash: str) -> bool:
        with self._catalog.exclusive([content_hash]) as writing:
            if writing.has_image(content_hash):
                return False
            self._blobs.delete(content_hash)
            return True

    @on_catalog
    def totals(self) -> dict[str, int]:
        """Count `images`, `captures`, `bytes` and `damaged` images."""
        return self._catalog.totals()

    def check(self) -> None:
        """Try the catalog and the storage.

        Raises:
            UnavailableError: either does not work, or both; the message says which.
        """
        troubles = []
        for part in (self._catalog, self._blobs):
            try:
                on_catalog(part.check)()
            except UnavailableError as error:
                troubles.append(str(error))
        if troubles:
            raise UnavailableError("; ".join(troubles))

    def close(self) -> None:
        """End the decoders, close the catalog and the storage."""
        self._decoders.close()
        self._catalog.close()
        self._blobs.close()


def _examined(content_hash: str, data: bytes, facts: Facts) -> Image:
    text = None if facts.perceptual_hash is None else f"{facts.perceptual_hash:016x}"
    return Image(
        content_hash, sniff(data) or UNKNOWN_TYPE, len(data), facts.width, facts.height, text
    )


def _utc(time: datetime | None) -> datetime:
    if time is None:
        return datetime.now(UTC)
    try:
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except OverflowError as error:
        raise InvalidRequestError(f"a lookup time cannot be {time}") from error
