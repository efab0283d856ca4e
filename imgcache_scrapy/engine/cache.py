"""ImageCache: the rules of the cache, over a catalog, blobs and a decoder."""

import os
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from sqlalchemy.engine import URL

from imgcache_scrapy.core.entry import UNKNOWN_TYPE, Entry, content_hash_of
from imgcache_scrapy.core.errors import (
    InvalidRequestError,
    NotFoundError,
    TooLargeError,
    UnavailableError,
)
from imgcache_scrapy.core.formats import sniff
from imgcache_scrapy.core.limits import MAX_IMAGE_BYTES
from imgcache_scrapy.core.urls import filename_of
from imgcache_scrapy.engine.blobs.opening import open_blobs
from imgcache_scrapy.engine.blobs.store import BlobStore
from imgcache_scrapy.engine.catalog.catalog import Catalog
from imgcache_scrapy.engine.catalog.database import database_call
from imgcache_scrapy.engine.catalog.rows import Capture, Image
from imgcache_scrapy.engine.decoding.decoder import Decoders
from imgcache_scrapy.engine.decoding.messages import ImageInfo
from imgcache_scrapy.engine.pairing import pair

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


class ImageCache:
    """A cache of images, for any number of threads; every method blocks.

    Args:
        database_url: where the catalog is, as SQLAlchemy writes it.
        blobs_url: where the bytes are, `file:///folder` or what obstore knows.
        upgrade: whether a catalog of an older version is upgraded, or else refused.

    Attributes:
        catalog: the tables; questions that need no bytes are its methods.

    Raises:
        ConfigurationError: the catalog is of a newer version, or of an older one where `upgrade`
            is False, or the blobs are those of another catalog.
        UnavailableError: the catalog cannot be reached. Methods raise it for the blobs, too.
    """

    def __init__(self, database_url: str | URL, blobs_url: str, *, upgrade: bool = True) -> None:
        with ExitStack() as opened:
            self.catalog = database_call(Catalog)(database_url, upgrade=upgrade)
            opened.callback(self.catalog.close)
            self._unchecked_blobs = open_blobs(blobs_url)
            opened.callback(self._unchecked_blobs.close)
            self._is_paired = False
            # While the blobs are out of reach, lookups are answered all the same.
            with suppress(UnavailableError):
                self._pair()
            opened.pop_all()
        self._decoders = Decoders()

    @classmethod
    def in_folder(cls, folder: Path, *, upgrade: bool = True) -> Self:
        """Open the cache in a folder, created when missing.

        Args:
            folder: holds `catalog.sqlite3` and `blobs/`; the environment's
                `IMGCACHE_DATABASE_URL` and `IMGCACHE_BLOBS_URL` replace either half.
            upgrade: whether a catalog of an older version is upgraded, or else refused.

        Raises:
            ConfigurationError: as the class says.
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
                upgrade=upgrade,
            )
        except OSError as error:
            raise UnavailableError(f"the cache in {folder} cannot be opened: {error}") from error

    def store(self, url: str, data: bytes, client_name: str, **options: Any) -> Entry:
        """Keep one image; the arguments are those of `Store.of`, the rest as in `store_many`."""
        return self.store_many([Store.of(url, data, client_name, **options)])[0]

    @database_call
    def store_many(self, stores: Sequence[Store]) -> list[Entry]:
        """Keep images and the URLs that led to them; they are durable when this returns.

        All or, where the catalog or the storage fails, none of them.

        Returns:
            The entry of each, with `created`: whether the image is new.
        """
        hashes = [content_hash_of(store.data) for store in stores]
        blobs = {name: store.data for name, store in zip(hashes, stores, strict=True)}
        images = self.catalog.images(blobs)
        new = {name: data for name, data in blobs.items() if name not in images}
        decoded = self._decoders.decode_many(list(new.values()))
        images |= {
            name: _examined(name, data, info)
            for (name, data), info in zip(new.items(), decoded, strict=True)
        }
        # Before the transaction, so that it need not hold others up.
        self.blobs.put_many(new)
        with self.catalog.exclusive(blobs) as writing:
            # A delete may have come between, or damage been found.
            sizes = self.blobs.sizes(blobs)
            self.blobs.put_many(
                {
                    name: data
                    for name, data in blobs.items()
                    if writing.is_damaged(name) or sizes[name] != len(data)
                }
            )
            return writing.record(
                [(images[name], store.capture) for name, store in zip(hashes, stores, strict=True)]
            )

    def get_image(self, content_hash: str, bucket: str = "") -> tuple[bytes, str]:
        """Read an image, checked against its hash; damage that is found is noted.

        Returns:
            The bytes and their content type.

        Raises:
            NotFoundError: not in this bucket, or its bytes are missing or damaged.
        """
        content_type = self.catalog.content_type(content_hash, bucket)
        if content_type is None:
            raise NotFoundError(f"no image {content_hash} here")
        data = self._sound_bytes(content_hash)
        if data is None:
            data = self._second_look(content_hash)
        return data, content_type

    def _sound_bytes(self, content_hash: str) -> bytes | None:
        data = self.blobs.get(content_hash)
        return data if data is not None and content_hash_of(data) == content_hash else None

    @database_call
    def _second_look(self, content_hash: str) -> bytes:
        # Within the lock, since a delete and a store may have run beside the first look.
        with self.catalog.exclusive([content_hash]) as writing:
            data = self._sound_bytes(content_hash)
            if data is None:
                writing.mark_damaged(content_hash)
        if data is None:
            raise NotFoundError(f"the bytes of image {content_hash} are missing or damaged")
        return data

    def delete(self, content_hash: str, bucket: str = "") -> None:
        """Forget a bucket's captures of an image; with the last one the image and its bytes.

        Raises:
            NotFoundError: this bucket has no capture of it.
        """
        if not self._delete_captures(content_hash, bucket):
            raise NotFoundError(f"no image {content_hash} here")
        # The row is gone for good before its blob goes; a store may have come between.
        self.delete_orphan(content_hash)

    @database_call
    def _delete_captures(self, content_hash: str, bucket: str) -> int:
        with self.catalog.exclusive([content_hash]) as writing:
            return writing.delete_captures(content_hash, bucket)

    @database_call
    def delete_orphan(self, content_hash: str) -> bool:
        """Delete the blob of an image that has no row.

        Returns:
            False if the image has a row, and so keeps its blob.
        """
        with self.catalog.exclusive([content_hash]) as writing:
            if writing.has_image(content_hash):
                return False
            self.blobs.delete(content_hash)
            return True

    def check(self) -> None:
        """Try the catalog and the storage.

        Raises:
            UnavailableError: either does not work, or both; the message says which.
        """
        troubles = []
        # `blobs` itself may say that there is trouble.
        for check in (self.catalog.check, lambda: self.blobs.check()):  # noqa: PLW0108
            try:
                database_call(check)()
            except UnavailableError as error:
                troubles.append(str(error))
        if troubles:
            raise UnavailableError("; ".join(troubles))

    def close(self) -> None:
        """End the decoders, close the catalog and the storage."""
        self._decoders.close()
        self.catalog.close()
        self._unchecked_blobs.close()

    @property
    def blobs(self) -> BlobStore:
        """The blobs, once it is sure that they are those of the catalog."""
        if not self._is_paired:
            self._pair()
        return self._unchecked_blobs

    @database_call
    def _pair(self) -> None:
        pair(self.catalog, self._unchecked_blobs)
        self._is_paired = True


def _examined(content_hash: str, data: bytes, info: ImageInfo) -> Image:
    return Image(
        content_hash,
        sniff(data) or UNKNOWN_TYPE,
        len(data),
        info.width,
        info.height,
        None if info.perceptual_hash is None else f"{info.perceptual_hash:016x}",
        info.decode_error,
    )


def _utc(time: datetime | None) -> datetime:
    if time is None:
        return datetime.now(UTC)
    try:
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except OverflowError as error:
        raise InvalidRequestError(f"a lookup time cannot be {time}") from error
