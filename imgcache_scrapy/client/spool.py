"""Spool: a folder with the images that could not be stored, until the cache works again.

Each record is one file, named by the hash of its content; it waits for one cache. A record that
the cache will never accept is moved to the folder `refused`, with a file that says why.
"""

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, NamedTuple
from uuid import uuid4

from imgcache_scrapy.client.record import (
    MAX_HEADER_BYTES,
    MAX_RECORD_BYTES,
    DamagedRecordError,
    Record,
)
from imgcache_scrapy.client.spool_index import SpoolIndex, check_is_file
from imgcache_scrapy.client.spool_size import SpoolSize, size_of
from imgcache_scrapy.core.entry import content_hash_of, is_content_hash
from imgcache_scrapy.core.files import sync_folder, try_lock, write_synced
from imgcache_scrapy.core.limits import MAX_TEXT
from imgcache_scrapy.core.text import reason_of

SPOOL_FOLDER = Path(".scrapy", "imgcache-spool")
"""The default folder of a spool, inside of Scrapy's data folder."""

MAX_SPOOL_BYTES = 2**30
"""Maximum size of a spool, including the refused records."""

_MAX_DRAFT_SECONDS = 3600
_REFUSED, _REASON = "refused", ".reason"


class SpooledRecord(NamedTuple):
    """A record in a spool, with facts about its file.

    Attributes:
        name: name of the file.
        size: size of the file, in bytes.
        record: the record; None if it is damaged or cannot be read.
        reason: why the cache refused it, or why it cannot be read; None if it still waits.
        is_readable: whether the file could be read.
    """

    name: str
    size: int
    record: Record | None
    reason: str | None
    is_readable: bool = True


class Spool:
    """A folder of records that threads and processes can share; every method blocks.

    Args:
        folder: the folder; created with the first record.
        limit: maximum size in bytes. It can be exceeded a little, because records of other
            processes are noticed late.

    Attributes:
        folder: the folder.
        index: which URLs have a record.
    """

    def __init__(self, folder: Path, *, limit: int = MAX_SPOOL_BYTES) -> None:
        self.folder = folder
        self.index = SpoolIndex.of(folder)
        self._size = SpoolSize(folder, folder / _REFUSED, limit)

    def put(self, record: Record) -> None:
        """Write a record; it is durable when this returns.

        Raises:
            UnavailableError: the spool is full.
            OSError: the disk is full or fails.
        """
        content = record.packed()
        name = content_hash_of(content)
        self._size.reserve(len(content))
        draft = self.folder / f"#{uuid4().hex}"
        try:
            _create_folder(self.folder)
            write_synced(draft, content)
            draft.replace(self.folder / name)
        except BaseException:
            self._size.give_back(len(content))
            draft.unlink(missing_ok=True)
            raise
        sync_folder(self.folder)
        self.index.add(name, record)

    def names(self) -> list[str]:
        """Return the names of the waiting records; remove files that a crash left half written."""
        if not self.folder.exists():
            return []
        for draft in self.folder.glob("#*"):
            if _changed(draft) < time.time() - _MAX_DRAFT_SECONDS:
                with suppress(OSError):
                    draft.unlink()
        return sorted(path.name for path in self.folder.iterdir() if is_content_hash(path.name))

    def oldest_first(self) -> list[str]:
        """Return the names of the waiting records in the order in which to store them.

        A record that could not be stored counts as new: see `postpone`.
        """
        return sorted(self.names(), key=lambda name: _changed(self.folder / name))

    def postpone(self, name: str) -> None:
        """Put a record behind all others, which must not wait for it."""
        with suppress(OSError):
            os.utime(self.folder / name)

    def lock(self, name: str, cache: str) -> "LockedRecord | None":
        """Lock a record, so that no other thread or process stores it at the same time.

        Args:
            name: name of the record's file.
            cache: the cache that takes the record.

        Returns:
            The locked record; call one of its methods to unlock it. None if another thread or
            process has locked or removed it, or if it waits for another cache.

        Raises:
            OSError: the file cannot be read.
        """
        path = self.folder / name
        try:
            check_is_file(path)
            file = path.open("rb")
        except FileNotFoundError:
            return None
        locked = LockedRecord(path, file)
        try:
            if _lock(file) and _is_same(file, path) and locked.belongs_to(cache):
                return locked
        except BaseException:
            locked.release()
            raise
        locked.release()
        return None

    def read(self, name: str) -> Record | None:
        """Read a record; return None if it is gone, damaged or cannot be read."""
        try:
            check_is_file(self.folder / name)
            with (self.folder / name).open("rb") as file:
                content = file.read(MAX_RECORD_BYTES)
            return Record.unpacked(content) if content_hash_of(content) == name else None
        except (OSError, DamagedRecordError):
            return None

    def listed(self) -> Iterator[SpooledRecord]:
        """Yield the waiting records, then the refused ones; only one is in memory at a time.

        A record that cannot be read is yielded, too, with the reason.
        """
        for name in self.names():
            yield from _read(self.folder / name, None)
        for path in sorted((self.folder / _REFUSED).glob("?*")):
            if is_content_hash(path.name):
                file = path.with_suffix(_REASON)
                reason = "unknown"
                with suppress(OSError, UnicodeError):
                    check_is_file(file)
                    with file.open(encoding="utf-8") as text:
                        reason = text.read(MAX_TEXT)
                yield from _read(path, reason)

    def remove_refused(self, name: str) -> None:
        """Remove a record that the cache refused, with the reason."""
        path = self.folder / _REFUSED / name
        for file in (path, path.with_suffix(_REASON)):
            file.unlink(missing_ok=True)


class LockedRecord:
    """A record that is locked while it is being stored; created by `Spool.lock`."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self._path = path
        self._file = file

    def belongs_to(self, cache: str) -> bool:
        """Return whether this cache may take the record; any cache may take a damaged one."""
        line = self._file.readline(MAX_HEADER_BYTES)
        self._file.seek(0)
        try:
            return Record.unpacked(line).belongs_to(cache)
        except DamagedRecordError:
            return True

    def read(self) -> Record:
        """Read the record.

        Raises:
            DamagedRecordError: the bytes changed after they were written.
        """
        content = self._file.read(MAX_RECORD_BYTES + 1)
        if os.name == "nt":  # Windows cannot remove an open file
            self.release()
        if content_hash_of(content) != self._path.name:
            raise DamagedRecordError("the file is damaged: its bytes do not match its name")
        return Record.unpacked(content)

    def remove(self) -> None:
        """Remove the record, because it is stored."""
        self._path.unlink(missing_ok=True)
        self.release()

    def refuse(self, reason: str) -> None:
        """Move the record to the folder `refused`, so that a person can look at it."""
        folder = self._path.parent / _REFUSED
        _create_folder(folder)
        (folder / f"{self._path.name}{_REASON}").write_text(reason, encoding="utf-8")
        self._path.replace(folder / self._path.name)
        sync_folder(folder)
        self.release()

    def release(self) -> None:
        """Unlock the record and keep it for later."""
        self._file.close()


def _create_folder(folder: Path) -> None:
    if not folder.exists():
        folder.mkdir(parents=True, exist_ok=True)
        sync_folder(folder.parent)


def _lock(file: BinaryIO) -> bool:
    """Lock a file until it is closed; return False if another process has locked it."""
    try:
        return try_lock(file)
    except OSError:
        return True  # Without locks a record may be stored twice, which does no harm.


def _is_same(file: BinaryIO, path: Path) -> bool:
    """Return whether the path still leads to this open file."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _read(path: Path, reason: str | None) -> Iterator[SpooledRecord]:
    try:
        check_is_file(path)
        with path.open("rb") as file:
            record = Record.unpacked(file.read(MAX_RECORD_BYTES))
    except FileNotFoundError:
        return  # another process has stored it
    except OSError as error:
        yield SpooledRecord(
            path.name, 0, None, f"cannot be read: {reason_of(error)}", is_readable=False
        )
        return
    except DamagedRecordError:
        record = None
    yield SpooledRecord(path.name, size_of(path), record, reason)


def _changed(path: Path) -> float:
    try:
        return path.lstat().st_mtime
    except OSError:
        return time.time()
