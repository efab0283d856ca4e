"""Images' bytes in an object store, through obstore."""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import obstore
from obstore.exceptions import BaseError
from obstore.store import from_url

from imgcache_scrapy.entry import blob_key
from imgcache_scrapy.errors import ConfigurationError, UnavailableError

# So many objects are written at a time.
_PUTS = 8


class ObjectBlobs:
    """As `FileBlobs`, in an object store.

    Args:
        url: any that obstore knows.

    Raises:
        ConfigurationError: it knows no such URL.
    """

    def __init__(self, url: str) -> None:
        try:
            self._store = from_url(url)
        except (BaseError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise ConfigurationError(f"the blobs URL cannot be used: {reason}") from error

    def put(self, content_hash: str, data: bytes) -> None:
        """As `FileBlobs.put`."""
        with _failures():
            obstore.put(self._store, blob_key(content_hash), data, use_multipart=False)

    def put_many(self, blobs: Mapping[str, bytes]) -> None:
        """As `FileBlobs.put_many`."""
        with ThreadPoolExecutor(_PUTS) as threads:
            list(threads.map(self.put, blobs.keys(), blobs.values()))

    def get(self, content_hash: str) -> bytes | None:
        """As `FileBlobs.get`."""
        with _failures():
            try:
                return obstore.get(self._store, blob_key(content_hash)).bytes().to_bytes()
            except FileNotFoundError:
                return None

    def size(self, content_hash: str) -> int | None:
        """As `FileBlobs.size`."""
        with _failures():
            try:
                return obstore.head(self._store, blob_key(content_hash))["size"]
            except FileNotFoundError:
                return None

    def delete(self, content_hash: str) -> None:
        """As `FileBlobs.delete`."""
        with _failures():
            try:
                obstore.delete(self._store, blob_key(content_hash))
            except FileNotFoundError:
                return


@contextmanager
def _failures() -> Iterator[None]:
    try:
        yield
    except (BaseError, OSError) as error:
        raise UnavailableError(f"the image storage failed: {error}") from error
