"""Snapshots: copies of a catalog in SQLite, from which `imgcache rebuild` takes the URLs."""

import logging
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock, Thread

from imgcache_scrapy.core.errors import ImgCacheError, UnavailableError
from imgcache_scrapy.core.files import sync_folder
from imgcache_scrapy.core.text import reason_of
from imgcache_scrapy.engine.catalog.catalog import Catalog
from imgcache_scrapy.engine.location import size_in_environment

MAX_BYTES = 1_000_000_000
"""A larger catalog gets no snapshots, unless `IMGCACHE_MAX_SNAPSHOT_BYTES` says so."""
KEPT = 2
"""Number of snapshots to keep."""

_DAY_SECONDS = 24 * 60 * 60
# A snapshot that takes longer belongs to a process that was killed.
_MAX_SECONDS = 60 * 60
_VARIABLE = "IMGCACHE_MAX_SNAPSHOT_BYTES"

_logger = logging.getLogger(__name__)


class Snapshots:
    """Takes a snapshot of a catalog once a day: when the cache is closed, or while it is open.

    Args:
        catalog: the catalog; in other databases than SQLite it gets no snapshots.

    Raises:
        ConfigurationError: the variable `IMGCACHE_MAX_SNAPSHOT_BYTES` is not a size.
    """

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._max_bytes = size_in_environment(_VARIABLE, MAX_BYTES)
        self._has_written = False
        self._next = time.monotonic() + _DAY_SECONDS
        self._lock = Lock()

    def after_write(self) -> None:
        """Take a snapshot in the background if the catalog has been open for a day."""
        self._has_written = True
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + _DAY_SECONDS
            Thread(target=self.take_if_due, name="imgcache-snapshot", daemon=True).start()

    def close(self) -> None:
        """Take the last snapshot if this process has written; wait for one that is running."""
        with self._lock:
            pass
        if self._has_written:
            self.take_if_due()

    def renew(self) -> None:
        """Remove all snapshots, because they have rows that were taken down; then take a new one.

        Raises:
            UnavailableError: one of them cannot be removed.
        """
        file = self._catalog.file
        if file is None:
            return
        with self._lock:
            found = snapshots_of(file)
            try:
                # A snapshot that another process is taking may have the rows, too.
                for path in (_draft_of(file), *found):
                    path.unlink(missing_ok=True)
            except OSError as error:
                raise UnavailableError(
                    f"a snapshot of the catalog cannot be removed: {reason_of(error)}"
                ) from error
        if found:
            self.take_if_due()

    def take_if_due(self) -> None:
        """Take a snapshot if the newest one is older than a day; log a failure."""
        file = self._catalog.file
        if file is None:
            return
        try:
            with self._lock:
                self._take(file)
        except (ImgCacheError, OSError) as error:
            _logger.warning(
                "There is no new snapshot of the image cache's catalog: %s", reason_of(error)
            )

    def _take(self, file: Path) -> None:
        newest = next(iter(snapshots_of(file)), None)
        is_due = newest is None or _age(newest) > _DAY_SECONDS
        size = file.stat().st_size
        if not is_due or size > self._max_bytes or not self._catalog.rows_after("", 1):
            return
        self._catalog.check_in_place()
        folder = folder_of(file)
        folder.mkdir(exist_ok=True)
        draft = _draft_of(file)
        if not _claim(draft):
            return
        try:
            self._catalog.copy_to(draft)
            draft.replace(_named_now(file))
        finally:
            draft.unlink(missing_ok=True)
        for old in snapshots_of(file)[KEPT:]:
            old.unlink(missing_ok=True)
        sync_folder(folder)


def folder_of(catalog_file: Path) -> Path:
    """Return the folder that has the snapshots of a catalog."""
    return catalog_file.parent / "snapshots"


def snapshots_of(catalog_file: Path) -> list[Path]:
    """Return the snapshots of a catalog, the newest first; the last ones are of a wrong clock."""
    found = folder_of(catalog_file).glob("*.sqlite3")
    prefix, now = f"{catalog_file.stem}-", _named_now(catalog_file).name
    return sorted(
        (each for each in found if each.name.startswith(prefix)),
        key=lambda each: (each.name <= now, each.name),
        reverse=True,
    )


def _named_now(catalog_file: Path) -> Path:
    name = f"{catalog_file.stem}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.sqlite3"
    return folder_of(catalog_file) / name


def _draft_of(catalog_file: Path) -> Path:
    return folder_of(catalog_file) / f"#{catalog_file.stem}"


def _claim(draft: Path) -> bool:
    """Create the file of a snapshot; return False if another process is taking one."""
    with suppress(FileNotFoundError):
        if _age(draft) > _MAX_SECONDS:
            draft.unlink()
    try:
        draft.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def _age(path: Path) -> float:
    # A clock that was wrong must not stop the snapshots.
    return abs(time.time() - path.stat().st_mtime)
