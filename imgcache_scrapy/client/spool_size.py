"""SpoolSize: how many bytes a spool has, so that it stays below its limit."""

from pathlib import Path
from threading import Lock

from imgcache_scrapy.client.spool_index import settled_change
from imgcache_scrapy.core.errors import UnavailableError


class SpoolSize:
    """The bytes of all files of a spool; threads can share it.

    Records of other processes are noticed when the spool seems full.

    Args:
        folder: the folder of the spool; it may be missing.
        refused: the folder in it with the refused records.
        limit: maximum number of bytes.
    """

    def __init__(self, folder: Path, refused: Path, limit: int) -> None:
        self._folder = folder
        self._folders = folder, refused
        self._limit = limit
        self._lock = Lock()
        self._size: int | None = None
        self._changes: list[int | None] = []

    def reserve(self, size: int) -> None:
        """Add a record that will be written.

        Raises:
            UnavailableError: the spool is full.
        """
        with self._lock:
            if self._size is None or self._size + size > self._limit:
                self._size = self._counted(self._size)
            if self._size + size > self._limit:
                raise UnavailableError(f"the spool {self._folder} is full")
            self._size += size

    def give_back(self, size: int) -> None:
        """Subtract a record that could not be written."""
        with self._lock:
            self._size = max(0, (self._size or 0) - size)

    def _counted(self, known: int | None) -> int:
        # Counting 100,000 records takes seconds, and a full spool would do it for each image.
        changes = [_change(each) for each in self._folders]
        if known is not None and None not in changes and changes == self._changes:
            return known
        self._changes = changes
        return sum(map(size_of, self._folder.rglob("*")))


def size_of(path: Path) -> int:
    """Return the size of a file; 0 if it is no file, or cannot be read."""
    try:
        return path.stat().st_size if path.is_file() else 0
    except OSError:
        return 0


def _change(folder: Path) -> int | None:
    try:
        return settled_change(folder)
    except FileNotFoundError:
        return 0
    except OSError:
        return None
