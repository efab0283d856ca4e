"""FileBlobs: the blobs in a folder, one file for each image."""

import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from stat import S_ISREG
from uuid import uuid4

from typing_extensions import override

from imgcache_scrapy.core.entry import blob_key
from imgcache_scrapy.core.errors import UnavailableError
from imgcache_scrapy.core.files import sync_folder, write_synced
from imgcache_scrapy.engine.blobs.store import OWNER_KEY, BlobStore, Found


class FileBlobs(BlobStore):
    """A blob store in a folder.

    It does not use obstore, which never syncs the files that it writes.

    Args:
        folder: created if it does not exist.
    """

    def __init__(self, folder: Path) -> None:
        with _storage_errors():
            folder.mkdir(parents=True, exist_ok=True)
            sync_folder(folder.parent)
        self._folder = folder

    @override
    def put(self, content_hash: str, data: bytes) -> None:
        self.put_many({content_hash: data})

    @override
    def put_many(self, blobs: Mapping[str, bytes]) -> None:
        # Write, sync, rename, sync the folders: after a power failure a blob is complete or absent.
        temporaries: dict[Path, Path] = {}
        with _storage_errors():
            try:
                for content_hash, data in blobs.items():
                    path = self._path(content_hash)
                    self._make_folder(path.parent)
                    # Obstore may read this folder, and it hides files with `#` in their name.
                    temporaries[path] = path.with_name(f"{path.name}#{uuid4().hex}")
                    write_synced(temporaries[path], data)
                for path, temporary in temporaries.items():
                    temporary.replace(path)
            except BaseException:
                for temporary in temporaries.values():
                    temporary.unlink(missing_ok=True)
                raise
            for folder in {path.parent for path in temporaries}:
                sync_folder(folder)

    @override
    def get(self, content_hash: str) -> bytes | None:
        with _storage_errors():
            try:
                return self._path(content_hash).read_bytes()
            except FileNotFoundError:
                return None

    @override
    def sizes(self, content_hashes: Collection[str]) -> dict[str, int | None]:
        with _storage_errors():
            return {name: _size(self._path(name)) for name in content_hashes}

    @override
    def delete(self, content_hash: str) -> None:
        self.discard(blob_key(content_hash))

    @override
    def discard(self, key: str) -> None:
        with _storage_errors():
            (self._folder / key).unlink(missing_ok=True)

    @override
    def scan(self) -> Iterator[Found]:
        with _storage_errors():
            yield from (each for each in _files(self._folder, "") if each.key != OWNER_KEY)
            for folder in filter(Path.is_dir, self._folder.iterdir()):
                yield from _files(folder, f"{folder.name}/")

    @override
    def owner(self) -> str | None:
        with _storage_errors():
            try:
                return (self._folder / OWNER_KEY).read_bytes().decode(errors="replace").strip()
            except FileNotFoundError:
                return None

    @override
    def set_owner(self, cache_id: str) -> None:
        temporary = self._folder / f"#{uuid4().hex}"
        with _storage_errors():
            write_synced(temporary, cache_id.encode())
            temporary.replace(self._folder / OWNER_KEY)
            sync_folder(self._folder)

    @override
    def check(self) -> None:
        with _storage_errors():
            probe = self._folder / f"#{uuid4().hex}"
            try:
                probe.write_bytes(b"-")
            finally:
                probe.unlink(missing_ok=True)

    @override
    def close(self) -> None:
        """Do nothing, because no file stays open."""

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
def _storage_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UnavailableError(f"the image storage failed: {error}") from error
