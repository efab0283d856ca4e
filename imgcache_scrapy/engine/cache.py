"""ImageCache: the rules of the cache, on top of a catalog, blobs and decoders."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any, Self

from imgcache_scrapy.core.audit import Deed
from imgcache_scrapy.core.batches import batches
from imgcache_scrapy.core.entry import Entry
from imgcache_scrapy.core.errors import (
    BlockedError,
    ReadOnlyError,
    StoreFailedError,
    UnavailableError,
    not_found,
    without_bytes,
)
from imgcache_scrapy.core.text import reason_of
from imgcache_scrapy.engine.blobs.opening import open_blobs
from imgcache_scrapy.engine.blobs.states import examine
from imgcache_scrapy.engine.blobs.store import BlobStore
from imgcache_scrapy.engine.catalog.catalog import Catalog
from imgcache_scrapy.engine.catalog.database import database_call
from imgcache_scrapy.engine.catalog.rows import today
from imgcache_scrapy.engine.catalog.sqlite import DatabaseUrl
from imgcache_scrapy.engine.decoding.decoders import Decoders
from imgcache_scrapy.engine.location import addresses_in, uses_folder
from imgcache_scrapy.engine.lost import warn_of_lost_blobs
from imgcache_scrapy.engine.pairing import check_before_upgrade, pair
from imgcache_scrapy.engine.snapshots import Snapshots
from imgcache_scrapy.engine.store_request import ClaimRequest, StoreRequest
from imgcache_scrapy.engine.storing import store_many

# Number of blobs that one transaction deletes, in which other writers wait.
_ORPHANS_AT_ONCE = 100


class ImageCache:
    """A cache of images that any number of threads may use; every method blocks.

    Args:
        database_url: the SQLAlchemy URL of the catalog.
        blobs_url: the URL of the blobs: `file:///folder` or a URL that obstore supports.
        upgrade: True upgrades a catalog of an older version, False refuses it.
        create: False never creates a cache.

    Attributes:
        catalog: the tables. Its methods answer every query that needs no bytes.
        decoders: find the size and the perceptual hash of pictures.

    Raises:
        ConfigurationError: the catalog has a newer version, or an older one and `upgrade` is
            False, or the blobs belong to another catalog, or there is no cache and `create` is
            False.
        UnavailableError: the catalog cannot be reached. The methods also raise it if the blobs
            cannot be reached.
    """

    def __init__(
        self,
        database_url: DatabaseUrl,
        blobs_url: str,
        *,
        upgrade: bool = True,
        create: bool = True,
    ) -> None:
        with ExitStack() as resources:
            self._unchecked_blobs = open_blobs(blobs_url)
            resources.callback(self._unchecked_blobs.close)
            self.catalog = database_call(Catalog)(
                database_url,
                upgrade=upgrade,
                before_upgrade=partial(check_before_upgrade, self._unchecked_blobs),
                create=create,
            )
            resources.callback(self.catalog.close)
            self._snapshots = Snapshots(self.catalog)
            self.catalog.on_write = self._snapshots.after_write
            self._is_paired = False
            # Lookups need only the catalog: they must work while the blobs cannot be reached.
            with suppress(UnavailableError):
                self._pair()
            resources.pop_all()
        self.decoders = Decoders()

    @classmethod
    def in_folder(cls, folder: Path, *, upgrade: bool = True, create: bool = True) -> Self:
        """Open the cache in a folder.

        Args:
            folder: contains `catalog.sqlite3` and `blobs/`. The environment variables
                `IMGCACHE_DATABASE_URL` and `IMGCACHE_BLOBS_URL` replace one or both.
            upgrade: as for the class.
            create: as for the class.

        Raises:
            ConfigurationError: for the reasons that the class names.
            UnavailableError: the cache cannot be opened.
        """
        try:
            if create and uses_folder():
                folder.mkdir(parents=True, exist_ok=True)
            return cls(*addresses_in(folder), upgrade=upgrade, create=create)
        except OSError as error:
            raise UnavailableError(f"the cache cannot be opened: {reason_of(error)}") from error

    def store(self, url: str, data: bytes, client_name: str, **options: Any) -> Entry:
        """Store one image, given as the arguments of `StoreRequest.of`; see `store_many`.

        Raises:
            StoreFailedError: the cache works, but cannot store this image.
            BlockedError: the image is blocked.
        """
        (stored,) = self.store_many([StoreRequest.of(url, data, client_name, **options)])
        if isinstance(stored, Exception):
            raise stored
        assert stored is not None  # noqa: S101 - every store has an entry
        return stored

    @database_call
    def store_many(
        self, requests: Sequence[StoreRequest | ClaimRequest]
    ) -> list[Entry | StoreFailedError | BlockedError | None]:
        """Store images and record captures; they are durable when this returns.

        A claim is recorded if the cache has the image, it is not damaged, and its blob is there
        with the right size.

        Returns:
            The entry of each request, with `created`: whether the image is new; None for a claim
            that is not recorded. If only the bytes of some images cannot be written, or some
            images are blocked, the error of these, and the others are stored.

        Raises:
            UnavailableError: the catalog or the storage fails; nothing is recorded.
        """
        return store_many(self, requests)

    def get_image(self, content_hash: str, bucket: str | None = None) -> tuple[bytes, str]:
        """Read an image and check its hash; mark it as damaged if its bytes cannot be used.

        Returns:
            The bytes and their content type. A bucket of None means all buckets.

        Raises:
            NotFoundError: it is not in the bucket, or its bytes are missing, damaged or unreadable.
            UnavailableError: the catalog or the whole storage fails; then nothing is marked.
        """
        found = self.catalog.type_and_size(content_hash, bucket)
        if found is None:
            raise not_found(content_hash, bucket)
        return self.sound_bytes(content_hash), found[0]

    def sound_bytes(self, content_hash: str) -> bytes:
        """Read the bytes of an image that is in the catalog; see `get_image`."""
        data = self._verified_bytes(content_hash)
        if data is None:
            self.check_blobs()
            with suppress(ReadOnlyError):  # Then nothing can be marked.
                data = self._read_under_lock(content_hash)
        if data is None:
            raise without_bytes(content_hash)
        return data

    def _verified_bytes(self, content_hash: str) -> bytes | None:
        state, data = examine(self.blobs, content_hash)
        return data if state == "sound" else None

    @database_call
    def _read_under_lock(self, content_hash: str) -> bytes | None:
        # Read again under the lock: a delete and a store may have run during the first read.
        with self.catalog.exclusive([content_hash]) as transaction:
            data = self._verified_bytes(content_hash)
            if data is None:
                self.check_blobs()
                transaction.mark_damaged(content_hash)
        return data

    def check_blobs(self) -> None:
        """Check that the blobs can be read; call it before the verdict on a bad blob.

        In an outage, or if a folder is not mounted, all blobs seem bad, and so does the small
        object that has the id of the cache.

        Raises:
            UnavailableError: the storage fails for all blobs.
        """
        if self.blobs.owner() != self.catalog.cache_id:
            raise UnavailableError(
                "the image storage failed: it does not have the id of this cache: check that its"
                " folder is mounted, or that its bucket is the right one"
            )

    def delete(self, content_hash: str, bucket: str = "", actor: str = "") -> None:
        """Delete the captures of an image in a bucket; with its last capture, delete the image.

        The audit list has the act, with the actor who does it.

        Raises:
            NotFoundError: the bucket has no capture of the image.
        """
        if not self._delete_captures(content_hash, bucket, actor):
            raise not_found(content_hash, bucket)
        # A new transaction: the row must be gone durably before the blob. It checks for one again.
        self.delete_orphan(content_hash)

    @database_call
    def _delete_captures(self, content_hash: str, bucket: str, actor: str) -> int:
        deed = Deed(actor, "delete", {"content_hash": content_hash, "bucket": bucket})
        with self.catalog.exclusive([content_hash]) as transaction:
            return transaction.delete_captures(content_hash, bucket, deed)

    def delete_orphan(self, content_hash: str) -> bool:
        """Delete a blob if its image has no row; return whether it was deleted."""
        return bool(self._delete_orphans([content_hash]))

    def delete_unused(self, content_hashes: Collection[str]) -> list[str]:
        """Delete those of some images that were not used today, with all their captures.

        Returns:
            The hashes of the deleted images.
        """
        self.check_blobs()
        deleted = self._delete_rows(content_hashes)
        self._delete_orphans(deleted)  # In a new transaction, as in `delete`.
        return deleted

    @database_call
    def _delete_rows(self, content_hashes: Collection[str]) -> list[str]:
        with self.catalog.exclusive(content_hashes) as transaction:
            return transaction.delete_unused(today())

    @database_call
    def _delete_orphans(self, content_hashes: Collection[str]) -> list[str]:
        with self.catalog.exclusive(content_hashes) as transaction:
            orphans = [name for name in content_hashes if not transaction.has_image(name)]
            self.blobs.delete_many(orphans)
        return orphans

    def delete_orphans(self, content_hashes: Iterable[str]) -> Iterator[None]:
        """Delete the blobs of images without a row; yield between short transactions."""
        for names in batches(content_hashes, _ORPHANS_AT_ONCE):
            self._delete_orphans(names)
            yield

    def renew_snapshots(self) -> None:
        """Replace all snapshots of the catalog by a new one; see `Snapshots.renew`."""
        self._snapshots.renew()

    def check(self) -> None:
        """Check that the catalog and the storage work.

        Raises:
            UnavailableError: one of them does not work, or both; the message says which.
        """
        failures = []
        for check in (self.catalog.check, self._check_storage):
            try:
                database_call(check)()
            except UnavailableError as error:
                failures.append(str(error))
        if failures:
            raise UnavailableError("; ".join(failures))

    def _check_storage(self) -> None:
        if self.catalog.is_read_only:
            self.blobs.owner()
        else:
            self.blobs.check()

    def close(self) -> None:
        """Stop the decoders, and close the catalog and the storage."""
        self.decoders.close()
        self._snapshots.close()
        self.catalog.close()
        self._unchecked_blobs.close()

    @property
    def blobs(self) -> BlobStore:
        """The blobs, after the check that they belong to the catalog."""
        if not self._is_paired:
            self._pair()
        return self._unchecked_blobs

    @property
    def paired_blobs(self) -> BlobStore | None:
        """The blobs; None if they could not be checked yet."""
        return self._unchecked_blobs if self._is_paired else None

    @database_call
    def _pair(self) -> None:
        pair(self.catalog, self._unchecked_blobs)
        self._is_paired = True
        if not self._unchecked_blobs.has_fast_sizes:
            warn_of_lost_blobs(self.catalog, self._unchecked_blobs)
