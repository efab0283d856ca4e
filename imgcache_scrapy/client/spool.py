"""Spool: a folder with the images that could not be stored, until the cache works again.

Each record is one file, named by the hash of its content. A record that the cache will never
accept is moved to the folder `refused`, with a file that says why.
"""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from threading import Lock
from typing import BinaryIO, NamedTuple
from uuid import uuid4

from imgcache_scrapy.client.record import MAX_RECORD_BYTES, DamagedRecordError, Record
from imgcache_scrapy.core.entry import content_hash_of, is_content_hash
from imgcache_scrapy.core.errors import REFUSALS, UnavailableError
from imgcache_scrapy.core.files import sync_folder, write_synced

try:
    import fcntl
except ImportError:  # Windows: no locks; storing a record twice is harmless
    fcntl = None  # type: ignore[assignment]

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
        record: the record; None if it cannot be read.
        reason: why the cache refused it; None if it still waits.
    """

    name: str
    size: int
    record: Record | None
    reason: str | None


class Spool:
    """A folder of records that threads and processes can share; every method blocks.

    Args:
        folder: the folder; created with the first record.
        limit: maximum size in bytes. It can be exceeded a little, because records of other
            processes are noticed late.
    """

    def __init__(self, folder: Path, *, limit: int = MAX_SPOOL_BYTES) -> None:
        self.folder = folder
        self._limit = limit
        self._lock = Lock()
        self._size: int | None = None

    def put(self, record: Record) -> None:
        """Write a record; it is durable when this returns.

        Raises:
            UnavailableError: the spool is full.
            OSError: the disk is full or fails.
        """
        content = record.packed()
        name = content_hash_of(content)
        self._reserve(len(content))
        draft = self.folder / f"#{uuid4().hex}"
        try:
            _create_folder(self.folder)
            write_synced(draft, content)
            draft.replace(self.folder / name)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise
        sync_folder(self.folder)

    def names(self) -> list[str]:
        """Return the names of the waiting records; remove files that a crash left half written."""
        if not self.folder.exists():
            return []
        for draft in self.folder.glob("#*"):
            if _age_of(draft) > _MAX_DRAFT_SECONDS:
                draft.unlink(missing_ok=True)
        return sorted(path.name for path in self.folder.iterdir() if is_content_hash(path.name))

    def claim(self, name: str) -> "ClaimedRecord | None":
        """Lock a record, so that no other thread or process stores it at the same time.

        Returns:
            The locked record; call one of its methods to unlock it. None if another thread or
            process has locked or removed it.
        """
        path = self.folder / name
        try:
            file = path.open("rb")
        except FileNotFoundError:
            return None
        if _try_lock(file) and _is_same(file, path):
            return ClaimedRecord(path, file)
        file.close()
        return None

    def listed(self) -> Iterator[SpooledRecord]:
        """Yield the waiting records, then the refused ones; only one is in memory at a time."""
        for name in self.names():
            yield from _read(self.folder / name, None)
        for path in sorted((self.folder / _REFUSED).glob("?*")):
            if is_content_hash(path.name):
                file = path.with_suffix(_REASON)
                reason = file.read_text(encoding="utf-8") if file.exists() else "unknown"
                yield from _read(path, reason)

    def _reserve(self, size: int) -> None:
        with self._lock:
            # If the spool seems full, count again: records may have been removed.
            if self._size is None or self._size + size > self._limit:
                self._size = sum(map(_size_of, self.folder.rglob("*")))
            if self._size + size > self._limit:
                raise UnavailableError(f"the spool {self.folder} is full")
            self._size += size


class ClaimedRecord:
    """A record that is locked while it is being stored; created by `Spool.claim`."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self._path = path
        self._file = file

    def read(self) -> Record:
        """Read the record.

        Raises:
            DamagedRecordError: the bytes changed after they were written.
        """
        content = self._file.read(MAX_RECORD_BYTES + 1)
        if fcntl is None:  # Windows cannot remove an open file
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


class ReplayResult(NamedTuple):
    """The result of a replay; the default means that another thread or process replays it.

    Attributes:
        is_stored: whether the image was stored.
        refusal: why the record was moved to the folder `refused`; None if it was not.
    """

    is_stored: bool = False
    refusal: str | None = None


async def replay(
    spool: Spool, name: str, store: Callable[[Record], Awaitable[object]]
) -> ReplayResult:
    """Store one record and remove it; set it aside if it can never be stored.

    Args:
        spool: the spool that has the record.
        name: name of the record's file.
        store: stores a record.

    Raises:
        ImgCacheError: the cache failed; the record stays in the spool.
    """
    claim = await asyncio.to_thread(spool.claim, name)
    if claim is None:
        return ReplayResult()
    try:
        await store(await asyncio.to_thread(claim.read))
        await asyncio.to_thread(claim.remove)
        return ReplayResult(is_stored=True)
    except (DamagedRecordError, *REFUSALS) as error:
        await asyncio.to_thread(claim.refuse, str(error))
        return ReplayResult(refusal=str(error))
    finally:
        claim.release()


def _create_folder(folder: Path) -> None:
    if not folder.exists():
        folder.mkdir(parents=True, exist_ok=True)
        sync_folder(folder.parent)


def _try_lock(file: BinaryIO) -> bool:
    """Lock a file until it is closed; return False if another process has locked it."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_same(file: BinaryIO, path: Path) -> bool:
    """Return whether the path still leads to this open file."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _read(path: Path, reason: str | None) -> Iterator[SpooledRecord]:
    try:
        with path.open("rb") as file:
            record = Record.unpacked(file.read(MAX_RECORD_BYTES))
    except FileNotFoundError:
        return  # another process has stored it
    except DamagedRecordError:
        record = None
    yield SpooledRecord(path.name, _size_of(path), record, reason)


def _size_of(path: Path) -> int:
    try:
        return path.stat().st_size if path.is_file() else 0
    except FileNotFoundError:
        return 0


def _age_of(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0
