"""The blobs: images' bytes by their hash, in a folder or in an object store."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit
from uuid import uuid4

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, ObjectStore, from_url

from imgcache_scrapy.entry import blob_key
from imgcache_scrapy.errors import ConfigurationError, UnavailableError


def open_blobs(blobs_url: str) -> "Blobs":
    """Open the storage that a URL names.

    Args:
        blobs_url: `file:///folder`, which is created, or any URL that obstore knows.

    Returns:
        The storage.

    Raises:
        ConfigurationError: it is no such URL.
    """
    parts = urlsplit(blobs_url)
    if parts.scheme == "file":
        if parts.netloc:
            raise ConfigurationError(f"{blobs_url!r} names a host: file:///folder is needed")
        return FileBlobs(Path(unquote(parts.path)))
    try:
        return Blobs(from_url(blobs_url))
    except (BaseError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigurationError(f"the blobs URL cannot be used: {reason}") from error


class Blobs:
    """Images' bytes in an object store.

    Every method takes the image's content hash and raises `UnavailableError` when the storage
    fails; that a blob is not there is an answer, not a failure.
    """

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def put(self, content_hash: str, data: bytes) -> None:
        """Write the bytes; they are durable when this returns. Writing them again is harmless."""
        with _failures():
            obstore.put(self._store, blob_key(content_hash), data, use_multipart=False)

    def get(self, content_hash: str) -> bytes | None:
        """Read the bytes, unchecked; None where there are none."""
        with _failures():
            try:
                return obstore.get(self._store, blob_key(content_hash)).bytes().to_bytes()
            except FileNotFoundError:
                return None

    def size(self, content_hash: str) -> int | None:
        """Tell how many bytes there are; None where there is no blob."""
        with _failures():
            try:
                return obstore.head(self._store, blob_key(content_hash))["size"]
            except FileNotFoundError:
                return None

    def delete(self, content_hash: str) -> None:
        """Remove the blob, if it is there."""
        with _failures():
            try:
                obstore.delete(self._store, blob_key(content_hash))
            except FileNotFoundError:
                return


class FileBlobs(Blobs):
    """Images' bytes in a folder: obstore reads them, but never syncs what it writes."""

    def __init__(self, folder: Path) -> None:
        with _failures():
            folder.mkdir(parents=True, exist_ok=True)
            _sync_folder(folder.parent)
        self._folder = folder
        super().__init__(LocalStore(folder))

    def put(self, content_hash: str, data: bytes) -> None:
        """Write, sync, rename, sync the folder: what a power cut leaves is all or nothing."""
        path = self._folder / blob_key(content_hash)
        with _failures():
            if not path.parent.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                _sync_folder(self._folder)
            # obstore hides names with a # from listings, as it does with its own leftovers.
            draft = path.with_name(f"{path.name}#{uuid4().hex}")
            try:
                _write_synced(draft, data)
                draft.replace(path)
            except BaseException:
                draft.unlink(missing_ok=True)
                raise
            _sync_folder(path.parent)


def _write_synced(path: Path, data: bytes) -> None:
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":  # Windows has no handle to sync a folder by
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _failures() -> Iterator[None]:
    try:
        yield
    except (BaseError, OSError) as error:
        raise UnavailableError(f"the image storage failed: {error}") from error
