"""The contract of a blob store: what the cache asks of a folder and of an object store alike."""

from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple, Protocol

from imgcache_scrapy.core.entry import hash_of_key

OWNER_KEY = "cache_id"
"""The name of the small file or object that tells whose blobs these are."""


class Found(NamedTuple):
    """A file or an object in a blob store.

    Attributes:
        key: its name, `ab/cdef…` for a blob.
        size: bytes.
        modified: seconds since 1970.
    """

    key: str
    size: int
    modified: float

    @property
    def content_hash(self) -> str | None:
        """The content hash of a blob, None for anything else."""
        return hash_of_key(self.key)


class BlobStore(Protocol):
    """The bytes of images by their content hash; for any number of threads, every method blocks.

    Every method raises `UnavailableError` when the storage fails. A missing blob is an answer, not
    a failure.
    """

    def put(self, content_hash: str, data: bytes) -> None:
        """Write the bytes; they are durable when this returns. Writing them again is harmless."""

    def put_many(self, blobs: Mapping[str, bytes]) -> None:
        """Write the bytes of many images, by their content hash, as `put` does."""

    def get(self, content_hash: str) -> bytes | None:
        """Read the bytes without checking them; None where there is no blob."""

    def sizes(self, content_hashes: Collection[str]) -> dict[str, int | None]:
        """Return how many bytes each image has; None where there is no blob."""

    def delete(self, content_hash: str) -> None:
        """Remove the blob, if it is there."""

    def discard(self, key: str) -> None:
        """Remove what `scan` found, if it is still there."""

    def scan(self) -> Iterator[Found]:
        """List everything in the store in no order, drafts and foreign files included.

        The mark of the owner is left out. A file that comes or goes meanwhile may be listed or not.
        """

    def owner(self) -> str | None:
        """Return the id of the cache that has marked these blobs as its own, None without one."""

    def set_owner(self, cache_id: str) -> None:
        """Mark these blobs as those of a cache; the mark is durable when this returns."""

    def check(self) -> None:
        """Try the storage; what this raises says that no image could be kept."""

    def close(self) -> None:
        """Release threads and connections."""
