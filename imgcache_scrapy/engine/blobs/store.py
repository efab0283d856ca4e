"""BlobStore: the protocol of all blob stores, in a folder or in an object store."""

from collections.abc import Collection, Iterator, Mapping
from typing import ClassVar, NamedTuple, Protocol

from imgcache_scrapy.core.entry import blob_key, hash_of_key, thumbnail_key
from imgcache_scrapy.core.errors import StoreFailedError

OWNER_KEY = "cache_id"
"""The name of the small file or object that contains the id of the cache."""


class Found(NamedTuple):
    """A file or an object in a blob store.

    Attributes:
        key: its name; `ab/cdef…` for a blob.
        size: in bytes.
        modified: when it was changed, in seconds since 1970.
    """

    key: str
    size: int
    modified: float

    @property
    def content_hash(self) -> str | None:
        """The content hash of a blob; None for other files."""
        return hash_of_key(self.key)


class BlobStore(Protocol):
    """The bytes of images, by content hash. Any number of threads may use it; every method blocks.

    Every method raises `UnavailableError` if the storage fails. A missing blob is not an error.

    Attributes:
        has_fast_sizes: whether `sizes` is fast enough for each lookup.
    """

    has_fast_sizes: ClassVar[bool] = False

    def put(self, content_hash: str, data: bytes) -> None:
        """Write a blob; it is durable when this returns. Writing it again is harmless.

        A folder or a link in its place is replaced.

        Raises:
            StoreFailedError: the storage works, but this blob cannot be written.
        """
        for error in self.put_many({content_hash: data}).values():
            raise error

    def put_many(self, blobs: Mapping[str, bytes]) -> dict[str, StoreFailedError]:
        """Write many blobs, given by their content hash, as `put` does.

        Returns:
            The errors of those blobs that cannot be written; the others are durable.

        Raises:
            UnavailableError: the storage fails for all blobs.
        """
        ...

    def get(self, content_hash: str) -> bytes | None:
        """Read a blob without checking its hash; None if there is no blob.

        Raises:
            UnavailableError: the blob cannot be read, or the whole storage fails.
        """

    def get_range(self, content_hash: str, start: int, stop: int) -> bytes | None:
        """Read the bytes of a blob from `start` up to `stop`; None if there is no blob.

        If the blob ends before `stop`, there may be fewer bytes or none.

        Raises:
            UnavailableError: the blob cannot be read, or has no such bytes, or the whole storage
                fails.
        """

    def sizes(self, content_hashes: Collection[str]) -> dict[str, int | None]:
        """Return the size of each blob in bytes; None if there is none, or none to be read."""

    def delete(self, content_hash: str) -> None:
        """Delete a blob and its thumbnail; do nothing if there is none."""
        self.delete_many([content_hash])

    def delete_many(self, content_hashes: Collection[str]) -> None:
        """Delete blobs and their thumbnails; do nothing for those that are missing."""
        for key_of in (blob_key, thumbnail_key):
            self.discard_many([key_of(each) for each in content_hashes])

    def discard(self, key: str) -> None:
        """Delete a file or object that `scan` found; do nothing if it is gone."""
        self.discard_many([key])

    def discard_many(self, keys: Collection[str]) -> None:
        """Delete files or objects; do nothing for those that are gone."""

    def get_aside(self, key: str) -> bytes | None:
        """Read a file or object beside the blobs; None if there is none."""

    def put_aside(self, key: str, data: bytes) -> None:
        """Write a file or object beside the blobs; unlike a blob, it need not be durable."""

    def scan_aside(self, folder: str) -> Iterator[Found]:
        """List the files or objects of a folder beside the blobs, in no order.

        Args:
            folder: its name, with a slash between folder and subfolder.
        """

    def scan(self, *, whole: bool = False) -> Iterator[Found]:
        """List all files in no order, including temporary files and files of other programs.

        `OWNER_KEY` and what `put_aside` has written are left out. A file that is created or deleted
        meanwhile may be listed or not.

        Args:
            whole: whether the list must be whole; else folders that cannot be listed are left out.

        Raises:
            UnavailableError: the storage fails; or one folder cannot be listed, and the list must
                be whole.
        """

    def owner(self) -> str | None:
        """Return the id of the cache that owns these blobs; None if no id is stored."""

    def set_owner(self, cache_id: str) -> None:
        """Store the id of the cache that owns these blobs; it is durable when this returns."""

    def check(self) -> None:
        """Raise `UnavailableError` if the storage cannot be used."""

    def close(self) -> None:
        """Release threads and connections."""
