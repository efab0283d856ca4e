"""The blobs in a folder: one file per image."""

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
    """A blob store in a folder, without obstore, which never syncs what it writes.

    Args:
        folder: created when missing.
    """

    def __init__(self, folder: Path) -> None:
        with _failures():
            folder.mkdir(parents=True, exist_ok=True)
            sync_folder(folder.parent)
        self._folder = folder

    @override
    def put(self, content_hash: str, data: bytes) -> None:
        self.put_many({content_hash: data})

    @override
    def put_many(self, blobs: Mapping[str, bytes]) -> None:
        # Write, sync, rename, sync the folders: a power cut leaves all of a blob or nothing.
        drafts: dict[Path, Path] = {}
        with _failures():
            try:
                for content_hash, data in blobs.items():
                    path = self._path(content_hash)
                    self._make_folder(path.parent)
                    # A name with `#`: obstore, which may read this folder, hides such files.
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

    @override
    def get(self, content_hash: str) -> bytes | None:
        with _failures():
            try:
                return self._path(content_hash).read_bytes()
            except FileNotFoundError:
                return None

    @override
    def sizes(self, content_hashes: Collection[str]) -> dict[str, int | None]:
        with _failures():
            return {name: _size(self._path(name)) for name in content_hashes}

    @override
    def delete(self, content_hash: str) -> None:
        self.discard(blob_key(content_hash))

    @override
    def discard(self, key: str) -> None:
        with _failures():
            (self._folder / key).unlink(missing_ok=True)

    @override
    def scan(self) -> Iterator[Found]:
        with _failures():
            yield from (each for each in _files(self._folder, "") if each.key != OWNER_KEY)
            for folder in filter(Path.is_dir, self._folder.iterdir()):
                yield from _files(folder, f"{folder.name}/")

    @override
    def owner(self) -> str | None:
        with _failures():
            try:
                return (self._folder / OWNER_KEY).read_bytes().decode(errors="replace").strip()
            except FileNotFoundError:
                return None

    @override
    def set_owner(self, cache_id: str) -> None:
        draft = self._folder / f"#{uuid4().hex}"
        with _failures():
            write_synced(draft, cache_id.encode())
            draft.replace(self._folder / OWNER_KEY)
            sync_folder(self._folder)

    @override
    def check(self) -> None:
        with _failures():
            probe = self._folder / f"#{uuid4().hex}"
            try:
                probe.write_bytes(b"-")
            finally:
                probe.unlink(missing_ok=True)

    @override
    def close(self) -> None:
        """Do nothing: no file is kept open."""

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
