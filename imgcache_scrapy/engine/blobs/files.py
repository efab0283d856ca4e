"""FileBlobs: the blobs in a folder, one file for each image."""

import logging
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from errno import EROFS
from pathlib import Path
from stat import S_ISREG
from uuid import uuid4

from typing_extensions import override

from imgcache_scrapy.core.entry import blob_key
from imgcache_scrapy.core.errors import ReadOnlyError, StoreFailedError, UnavailableError
from imgcache_scrapy.core.files import sync_file, sync_folder, write_new, write_synced
from imgcache_scrapy.core.text import reason_of
from imgcache_scrapy.engine.blobs.regular_files import files_in, read, replace, size_of
from imgcache_scrapy.engine.blobs.store import OWNER_KEY, BlobStore, Found
from imgcache_scrapy.engine.blobs.syncing import SyncThreads

logger = logging.getLogger(__name__)


class FileBlobs(BlobStore):
    """A blob store in a folder.

    It does not use obstore, which never syncs the files that it writes.

    Args:
        folder: created by the first write if it does not exist.
    """

    has_fast_sizes = True

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._has_owner = False
        self._synced_folders: set[str] = set()
        self._sync_threads = SyncThreads()

    @override
    def put_many(self, blobs: Mapping[str, bytes]) -> dict[str, StoreFailedError]:
        # Write, sync, rename, sync the folders: after a power failure a blob is complete or absent.
        failed: dict[str, StoreFailedError] = {}
        paths = {name: self._path(blob_key(name)) for name in blobs}
        # Obstore may read this folder, and it hides files with `#` in their name.
        suffix = f"#{uuid4().hex}"
        drafts = {name: f"{path}{suffix}" for name, path in paths.items()}
        try:
            for name, data in blobs.items():
                with self._errors_of([name], failed):
                    self._write_draft(drafts[name], data)
            self._sync_all(sync_file, {drafts[n]: [n] for n in blobs.keys() - failed}, failed)
            for name in blobs.keys() - failed.keys():
                with self._errors_of([name], failed):
                    replace(drafts[name], paths[name])
                    del drafts[name]
        finally:
            for draft in drafts.values():
                with suppress(OSError):
                    Path(draft).unlink()
        folders = defaultdict(list)
        for name in blobs.keys() - failed.keys():
            folders[_folder_of(paths[name])].append(name)
        self._sync_all(sync_folder, folders, failed)
        return failed

    @override
    def get(self, content_hash: str) -> bytes | None:
        return self._read(blob_key(content_hash))

    @override
    def get_range(self, content_hash: str, start: int, stop: int) -> bytes | None:
        return self._read(blob_key(content_hash), start, stop - start)

    @override
    def sizes(self, content_hashes: Collection[str]) -> dict[str, int | None]:
        with _storage_errors():
            return {name: size_of(self._path(blob_key(name))) for name in content_hashes}

    @override
    def discard_many(self, keys: Collection[str]) -> None:
        with _storage_errors():
            for key in keys:
                (self._folder / key).unlink(missing_ok=True)

    @override
    def get_aside(self, key: str) -> bytes | None:
        return self._read(key)

    @override
    def put_aside(self, key: str, data: bytes) -> None:
        path = self._folder / key
        temporary = path.with_name(f"{path.name}#{uuid4().hex}")
        with _storage_errors():
            if not path.parent.exists():
                self._check_root()
                path.parent.mkdir(parents=True, exist_ok=True)
            try:
                temporary.write_bytes(data)
                temporary.replace(path)
            finally:
                temporary.unlink(missing_ok=True)

    @override
    def scan_aside(self, folder: str) -> Iterator[Found]:
        with _storage_errors():
            yield from files_in(self._folder / folder, f"{folder}/", whole=False)

    @override
    def scan(self, *, whole: bool = False) -> Iterator[Found]:
        with _storage_errors():
            files = files_in(self._folder, "", whole=whole)
            yield from (each for each in files if each.key != OWNER_KEY)
            folders = self._folder.iterdir() if self._folder.exists() else ()
            for folder in filter(Path.is_dir, folders):
                try:
                    yield from files_in(folder, f"{folder.name}/", whole=whole)
                except OSError as error:
                    if whole:
                        raise
                    logger.warning("The folder %s cannot be read: %s", folder, reason_of(error))

    @override
    def owner(self) -> str | None:
        owner = self._read(OWNER_KEY)
        if owner is None:
            return None
        self._has_owner = True
        return owner.decode(errors="replace").strip()

    @override
    def set_owner(self, cache_id: str) -> None:
        temporary = self._folder / f"#{uuid4().hex}"
        with _storage_errors():
            self._make_root()
            try:
                write_synced(temporary, cache_id.encode())
                temporary.replace(self._folder / OWNER_KEY)
            finally:
                temporary.unlink(missing_ok=True)
            sync_folder(self._folder)
        self._has_owner = True

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
        """Stop the threads; no file stays open."""
        self._sync_threads.close()

    def link(self, content_hash: str, source: "FileBlobs") -> bool:
        """Give a blob of another folder a name in this one, without a copy of its bytes.

        Call `sync` after the last one.

        Returns:
            False if the file system cannot do this, or if the blob is missing or not a file.
        """
        key = blob_key(content_hash)
        path, original = self._folder / key, source._folder / key  # noqa: SLF001
        try:
            if not S_ISREG(original.lstat().st_mode):
                return False
            path.parent.mkdir(parents=True, exist_ok=True)
            # A blob is never changed in place, so both names keep these bytes.
            path.hardlink_to(original)
        except OSError:
            return False
        return True

    def sync(self) -> None:
        """Wait until the names of all blobs are on disk."""
        with _storage_errors():
            for folder in filter(Path.is_dir, self._folder.iterdir()):
                sync_folder(folder)
            sync_folder(self._folder)

    def _path(self, key: str) -> str:
        # Not a `Path`, which takes as long as to read or write the file.
        return f"{self._folder}/{key}"

    def _read(self, key: str, start: int = 0, size: int = -1) -> bytes | None:
        with _storage_errors():
            return read(self._path(key), start, size)

    def _sync_all(
        self,
        sync: Callable[[str], None],
        paths: Mapping[str, Iterable[str]],
        failed: dict[str, StoreFailedError],
    ) -> None:
        """Sync paths, and note the errors of the blobs that each path concerns."""
        for path, error in self._sync_threads.sync(sync, list(paths)).items():
            with self._errors_of(paths[path], failed):
                raise error

    @contextmanager
    def _errors_of(
        self, content_hashes: Iterable[str], failed: dict[str, StoreFailedError]
    ) -> Iterator[None]:
        """Note the error of these blobs, if the storage works for others; else raise it."""
        try:
            yield
        except OSError as error:
            self.check()
            reason = f"the image storage failed for this image: {reason_of(error)}"
            for content_hash in content_hashes:
                failed[content_hash] = StoreFailedError(reason)
                failed[content_hash].__cause__ = error

    def _make_root(self) -> None:
        if not self._folder.exists():
            self._folder.mkdir(parents=True, exist_ok=True)
            sync_folder(self._folder.parent)

    def _check_root(self) -> None:
        if self._has_owner and not (self._folder / OWNER_KEY).exists():
            # Somebody removed the folder, or its disk is not mounted.
            raise UnavailableError(
                f"the image storage failed: {self._folder} is not the folder that was opened"
            )

    def _write_draft(self, path: str, data: bytes) -> None:
        folder = _folder_of(path)
        if folder not in self._synced_folders:
            self._make_folder(folder)
        try:
            write_new(path, data)
        except FileNotFoundError:  # Somebody removed the folder.
            self._make_folder(folder)
            write_new(path, data)

    def _make_folder(self, folder: str) -> None:
        if not Path(folder).exists():
            self._check_root()
            self._make_root()
            Path(folder).mkdir(exist_ok=True)
        # Another thread or process may have made the folder without having synced it yet.
        sync_folder(self._folder)
        self._synced_folders.add(folder)


def _folder_of(path: str) -> str:
    return path.rpartition("/")[0]


@contextmanager
def _storage_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno == EROFS:
            raise ReadOnlyError(
                f"the image storage can only be read: {reason_of(error)}"
            ) from error
        raise UnavailableError(f"the image storage failed: {reason_of(error)}") from error
