"""SpoolIndex: which URLs have a record in a spool, so that a crawl does not fetch them again."""

import time
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from stat import S_ISREG
from threading import Lock
from typing import Self
from weakref import WeakValueDictionary

from imgcache_scrapy.client.record import MAX_HEADER_BYTES, DamagedRecordError, Record
from imgcache_scrapy.core.entry import is_content_hash

MAX_INDEXED = 50_000
"""Maximum number of records in an index, about 300 bytes each; URLs of others are misses."""

_SECONDS_BETWEEN_SCANS = 1.0
# A file system may give two changes of a folder the same time. Its time proves that nothing has
# changed only if it is older than this.
_SETTLED_NANOSECONDS = 2 * 10**9


class SpoolIndex:
    """The newest record of each URL in a spool; threads and crawls of one process share it.

    Records that other processes write are noticed within a second. A record may be gone when it
    is read.

    Args:
        folder: the folder of the spool.
        max_records: maximum number of records to remember.
    """

    def __init__(self, folder: Path, *, max_records: int = MAX_INDEXED) -> None:
        self._folder = folder
        self._max_records = max_records
        self._lock = Lock()
        # Digests instead of texts, because a URL can have 64 KB. The reader of a record compares
        # the texts.
        self._records: dict[int, tuple[float, bytes]] = {}
        self._names: dict[bytes, int | None] = {}
        self._scanned = float("-inf")
        self._changed: int | None = None

    @classmethod
    def of(cls, folder: Path) -> Self:
        """Return the index of a folder; there is one for each folder in a process."""
        return _indexes.setdefault(folder, cls(folder))  # type: ignore[return-value]

    @property
    def is_fresh(self) -> bool:
        """Whether the folder was scanned in the last second."""
        return time.monotonic() - self._scanned < _SECONDS_BETWEEN_SCANS

    def find(self, keys: Iterable[str], bucket: str, cache: str) -> dict[str, str]:
        """Return the name of the newest record of each key that has one; no file is read.

        Args:
            keys: the cache keys of the URLs.
            bucket: the bucket that the record waits for.
            cache: the cache that it waits for; records without a cache are found, too.
        """
        if not self._records:
            return {}
        found = {}
        for key in keys:
            digests = (hash((cache, bucket, key)), hash((None, bucket, key)))
            records = [self._records[each] for each in digests if each in self._records]
            if records:
                found[key] = max(records)[1].hex()
        return found

    def scan(self) -> None:
        """Read the names of the records again if the folder has changed; this blocks."""
        with self._lock:
            if not self.is_fresh:
                self._scan()
                self._scanned = time.monotonic()

    def add(self, name: str, record: Record) -> None:
        """Add a record that was written."""
        with self._lock:
            self._add(bytes.fromhex(name), record)

    def _scan(self) -> None:
        try:
            changed = settled_change(self._folder)
            if changed is not None and changed == self._changed:
                return
            names = [path.name for path in self._folder.iterdir()]
            on_disk = {bytes.fromhex(name) for name in names if is_content_hash(name)}
        except OSError:
            on_disk, changed = set(), None
        for name in self._names.keys() - on_disk:
            self._forget(name)
        room = self._max_records - len(self._names)
        for name in islice(on_disk - self._names.keys(), room):
            self._add(name, self._header(name))
        self._changed = changed

    def _header(self, name: bytes) -> Record | None:
        try:
            return read_header(self._folder / name.hex())
        except (OSError, DamagedRecordError):
            return None

    def _add(self, name: bytes, record: Record | None) -> None:
        if name in self._names or len(self._names) >= self._max_records:
            return
        if record is None:
            self._names[name] = None
            return
        digest = self._names[name] = hash((record.cache, record.bucket, record.key or record.url))
        newest = (record.lookup_time.timestamp(), name)
        self._records[digest] = max(newest, self._records.get(digest, newest))

    def _forget(self, name: bytes) -> None:
        digest = self._names.pop(name)
        if digest is not None and self._records.get(digest, (0, b""))[1] == name:
            del self._records[digest]


def settled_change(folder: Path) -> int | None:
    """Return the time of a folder's last change; None if a later one may have the same time.

    Raises:
        OSError: there is no folder, or the file system fails.
    """
    now, changed = time.time_ns(), folder.stat().st_mtime_ns
    return changed if changed < now - _SETTLED_NANOSECONDS else None


def read_header(path: Path) -> Record:
    """Read a record without the bytes of its image.

    Raises:
        DamagedRecordError: the file does not begin like a record.
        OSError: the file cannot be read.
    """
    check_is_file(path)
    with path.open("rb") as file:
        return Record.unpacked(file.readline(MAX_HEADER_BYTES))


def check_is_file(path: Path) -> None:
    """Check that a path leads to a file: opening a pipe would block.

    Raises:
        FileNotFoundError: there is nothing of this name.
        OSError: it is no file, or the file system fails.
    """
    if not S_ISREG(path.stat().st_mode):
        raise OSError(f"{path} is not a file")


_indexes: WeakValueDictionary[Path, SpoolIndex] = WeakValueDictionary()
