"""The spool: a folder that keeps the images which the cache did not take, until it does.

One file per record, named by the hash of its content. A record that can never be stored goes to
the folder `refused`, with the reason beside it.
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
except ImportError:  # Windows; storing a record twice at once is harmless
    fcntl = None  # type: ignore[assignment]

SPOOL_FOLDER = Path(".scrapy", "imgcache-spool")
"""Where a spool is, as Scrapy names its data folder, when nobody says."""

MAX_SPOOL_BYTES = 2**30
"""A spool takes no more than this, what was refused included."""

_MAX_DRAFT_SECONDS = 3600
_REFUSED, _REASON = "refused", ".reason"


class Waiting(NamedTuple):
    """A record as it is listed.

    Attributes:
        name: of its file.
        size: of its file, in bytes.
        record: the record, None where it cannot be read.
        reason: why it was refused, None where it was not.
    """

    name: str
    size: int
    record: Record | None
    reason: str | None


class Spool:
    """The records in a folder, for any number of threads and processes; every method blocks.

    Args:
        folder: where they are; created with the first one.
        limit: so many bytes it takes, about: others that use it are seen late.
    """

    def __init__(self, folder: Path, *, limit: int = MAX_SPOOL_BYTES) -> None:
        self.folder = folder
        self._limit = limit
        self._lock = Lock()
        self._size: int | None = None

    def put(self, record: Record) -> None:
        """Keep a record; it is durable when this returns.

        Raises:
            UnavailableError: the spool is full.
            OSError: the disk is, or fails.
        """
        content = record.packed()
        name = content_hash_of(content)
        self._reserve(len(content))
        draft = self.folder / f"#{uuid4().hex}"
        try:
            _make(self.folder)
            write_synced(draft, content)
            draft.replace(self.folder / name)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise
        sync_folder(self.folder)

    def names(self) -> list[str]:
        """Name the records that wait; what a crash left half written is removed."""
        if not self.folder.exists():
            return []
        for draft in self.folder.glob("#*"):
            if _age(draft) > _MAX_DRAFT_SECONDS:
                draft.unlink(missing_ok=True)
        return sorted(path.name for path in self.folder.iterdir() if is_content_hash(path.name))

    def claim(self, name: str) -> "Claim | None":
        """Take a record, so that nobody else stores it meanwhile.

        Returns:
            It, to be ended by one of its methods; None where somebody else has it, or had.
        """
        path = self.folder / name
        try:
            file = path.open("rb")
        except FileNotFoundError:
            return None
        if _is_locked(file) and _is_same(file, path):
            return Claim(path, file)
        file.close()
        return None

    def listed(self) -> Iterator[Waiting]:
        """List the records, those that were refused last; one is in memory at a time."""
        for name in self.names():
            yield from _waiting(self.folder / name, None)
        for path in sorted((self.folder / _REFUSED).glob("?*")):
            if is_content_hash(path.name):
                reason = path.with_suffix(_REASON)
                told = reason.read_text() if reason.exists() else "unknown"
                yield from _waiting(path, told)

    def _reserve(self, size: int) -> None:
        with self._lock:
            # Counted anew when it seems full: there may be room again.
            if self._size is None or self._size + size > self._limit:
                self._size = sum(map(_size, self.folder.rglob("*")))
            if self._size + size > self._limit:
                raise UnavailableError(f"the spool {self.folder} is full")
            self._size += size


class Claim:
    """A record that somebody is about to store; made by `Spool.claim`."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self._path = path
        self._file = file

    def read(self) -> Record:
        """Read the record.

        Raises:
            DamagedRecordError: its bytes are not those that were written.
        """
        content = self._file.read(MAX_RECORD_BYTES + 1)
        if fcntl is None:  # an open file could not be removed
            self.release()
        if content_hash_of(content) != self._path.name:
            raise DamagedRecordError("it is damaged: its bytes do not match its name")
        return Record.unpacked(content)

    def remove(self) -> None:
        """Forget the record: it is stored."""
        self._path.unlink(missing_ok=True)
        self.release()

    def refuse(self, reason: str) -> None:
        """Set the record aside, for somebody to look at."""
        folder = self._path.parent / _REFUSED
        _make(folder)
        (folder / f"{self._path.name}{_REASON}").write_text(reason)
        self._path.replace(folder / self._path.name)
        sync_folder(folder)
        self.release()

    def release(self) -> None:
        """Leave the record for later."""
        self._file.close()


class Outcome(NamedTuple):
    """What came of a replay.

    Attributes:
        is_stored: whether the cache has the image now; else somebody else replays the record.
        refusal: why the record was set aside, None where it was not.
    """

    is_stored: bool = False
    refusal: str | None = None


async def replay(spool: Spool, name: str, store: Callable[[Record], Awaitable[object]]) -> Outcome:
    """Store one record and forget it; set it aside where it can never be stored.

    Args:
        spool: where it waits.
        name: of its file.
        store: stores it.

    Raises:
        ImgCacheError: it could not be stored now, and waits on.
    """
    claim = await asyncio.to_thread(spool.claim, name)
    if claim is None:
        return Outcome()
    try:
        await store(await asyncio.to_thread(claim.read))
        await asyncio.to_thread(claim.remove)
        return Outcome(is_stored=True)
    except (DamagedRecordError, *REFUSALS) as error:
        await asyncio.to_thread(claim.refuse, str(error))
        return Outcome(refusal=str(error))
    finally:
        claim.release()


def _make(folder: Path) -> None:
    if not folder.exists():
        folder.mkdir(parents=True, exist_ok=True)
        sync_folder(folder.parent)


def _is_locked(file: BinaryIO) -> bool:
    """Lock a file, if nobody has; the lock ends with the process."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_same(file: BinaryIO, path: Path) -> bool:
    """Tell whether this is still the file of that name."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _waiting(path: Path, reason: str | None) -> Iterator[Waiting]:
    try:
        with path.open("rb") as file:
            record = Record.unpacked(file.read(MAX_RECORD_BYTES))
    except FileNotFoundError:
        return  # stored meanwhile
    except DamagedRecordError:
        record = None
    yield Waiting(path.name, _size(path), record, reason)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size if path.is_file() else 0
    except FileNotFoundError:
        return 0


def _age(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0
