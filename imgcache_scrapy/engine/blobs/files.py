"""The blobs: images' bytes by their hash, in a folder or in an object store."""

import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from stat import S_ISREG
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote, urlsplit
from uuid import uuid4

from imgcache_scrapy.core.entry import blob_key, hash_of_key
from imgcache_scrapy.core.errors import ConfigurationError, UnavailableError
from imgcache_scrapy.core.files import sync_folder, write_synced

if TYPE_CHECKING:
    from imgcache_scrapy.engine.blobs.objects import ObjectBlobs


def open_blobs(blobs_url: str) -> "FileBlobs | ObjectBlobs":
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
    # Imported here, since few have an object store.
    from imgcache_scrapy.engine.blobs.objects import ObjectBlobs  # noqa: PLC0415

    return ObjectBlobs(blobs_url)


class Found(NamedTuple):
    """A file or an object that lies in the storage.

    Attributes:
        key: its name, `ab/cdef…` where it is a blob.
        size: bytes.
        modified: seconds since 1970.
    """

    key: str
    size: int
    modified: float

    @property
    def content_hash(self) -> str | None:
        """Whose blob it is, None where it is none."""
        return hash_of_key(self.key)


class FileBlobs:
    """Images' bytes in a folder; not by obstore, which never syncs what it writes.

    Every method raises `UnavailableError` when the storage fails; that a blob is not there is an
    answer, not a failure.
    """

    def __init__(self, folder: Path) -> None:
        with _failures():
            folder.mkdir(parents=True, exist_ok=True)
            sync_folder(folder.parent)
        self._folder = folder

    def put(self, content_hash: str, data: bytes) -> None:
        """Write the bytes; they are durable when this returns. Writing them again is harmless."""
        self.put_many({content_hash: data})

    def put_many(self, blobs: Mapping[str, bytes]) -> None:
        """Write the bytes of many images, by their content hash, as `put` does.

        Write, sync, rename, sync the folders: what a power cut leaves is all or nothing.
        """
        drafts: dict[Path, Path] = {}
        with _failures():
            try:
                for content_hash, data in blobs.items():
                    path = self._path(content_hash)
                    self._make_folder(path.parent)
                    # obstore, should it read this folder, hides such names, as of its own drafts.
                    drafts[path] = path.with_name(f"{path.name}#{uuid4().hex}")
                    write_synced(drafts[path], data)
                for path, draft in drafts.items():
                    draft.replace(path)
            except BaseException:
                for draft in drafts.values():
                    draft.unlink(missing_ok=True)
                raise
            for folder in {path.parent for path in drafts}:
                sync_folder(folder)

    def get(self, content_hash: str) -> bytes | None:
        """Read the bytes, unchecked; None where there are none."""
        with _failures():
            try:
                return self._path(content_hash).read_bytes()
            except FileNotFoundError:
                return None

    def sizes(self, content_hashes: Collection[str]) -> dict[str, int | None]:
        """Tell how many bytes there are of each image; None where there is no blob."""
        with _failures():
            return {name: _size(self._path(name)) for name in content_hashes}

    def delete(self, content_hash: str) -> None:
        """Remove the blob, if it is there."""
        self.discard(blob_key(content_hash))

    def discard(self, key: str) -> None:
        """Remove what `scan` found, if it is still there."""
        with _failures():
            (self._folder / key).unlink(missing_ok=True)

    def scan(self) -> Iterator[Found]:
        """List what is there in no order, drafts and foreign files included.

        What comes or goes meanwhile may be listed or not.
        """
        with _failures():
            yield from _files(self._folder, "")
            for folder in filter(Path.is_dir, self._folder.iterdir()):
                yield from _files(folder, f"{folder.name}/")

    def check(self) -> None:
        """Write something, and remove it: what this raises says that no image could be kept."""
        with _failures():
            probe = self._folder / f"#{uuid4().hex}"
            try:
                probe.write_bytes(b"-")
            finally:
                probe.unlink(missing_ok=True)

    def close(self) -> None:
        """End what serves the storage."""

    def _path(self, content_hash: str) -> Path:
        return self._folder / blob_key(content_hash)

    def _make_folder(self, folder: Path) -> None:
        if not folder.exists():
            folder.mkdir(parents=True, exist_ok=True)
            sync_folder(self._folder)


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None


def _files(folder: Path, prefix: str) -> Iterator[Found]:
    with os.scandir(folder) as entries:
        for entry in entries:
            with suppress(FileNotFoundError):
                stat = entry.stat(follow_symlinks=False)
                if S_ISREG(stat.st_mode):
                    yield Found(f"{prefix}{entry.name}", stat.st_size, stat.st_mtime)


@contextmanager
def _failures() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UnavailableError(f"the image storage failed: {error}") from error
