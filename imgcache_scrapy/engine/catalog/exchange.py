"""Put a new catalog in the place of an old one, so that a kill leaves one of the two whole."""

import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

from imgcache_scrapy.core.errors import UnavailableError
from imgcache_scrapy.core.files import sync_file, sync_folder
from imgcache_scrapy.engine.catalog.sqlite import BUSY_SECONDS, is_busy, is_unreadable

_LOG, _INDEX = "-wal", "-shm"


@contextmanager
def without_writers(file: Path) -> Iterator[None]:
    """Keep others from writing a catalog in SQLite, if SQLite can open it; they can read it.

    Do not open the file without SQLite meanwhile: closing it would end the locks of this process.

    Args:
        file: the file of the catalog; it may be missing.

    Raises:
        UnavailableError: another program writes for too long.
    """
    with ExitStack() as resources:
        try:
            if file.exists():
                connection = resources.enter_context(closing(_connect(file, "rw")))
                connection.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            if is_busy(error):
                raise UnavailableError(
                    "another program is writing the catalog: stop everything that uses the cache"
                ) from error
        yield


def copy_file(file: Path, copy: Path) -> None:
    """Copy a catalog in SQLite with what its log has; damaged pages are copied as they are.

    Raises:
        OSError: it cannot be read, or is not a database.
    """
    try:
        with closing(_connect(file, "ro")) as source, closing(sqlite3.connect(copy)) as target:
            source.backup(target)
    except sqlite3.Error as error:
        raise OSError(f"{file} cannot be copied: {error}") from error


def exchange(file: Path, draft: Path) -> Path | None:
    """Put a new catalog in the place of the old one, and keep that with its log.

    Args:
        file: the path of the old catalog; it may be missing.
        draft: the new catalog, in a folder of its own on the same disk.

    Returns:
        The file in which the old catalog is kept; None if there was none.

    Raises:
        OSError: the disk fails, or is full; then the old catalog is whole in its place.
    """
    sync_file(draft)
    kept = _keep(file, draft.parent) if file.exists() else None
    # The log belongs to the old file: beside the new one it would destroy it.
    if kept is not None and _beside(kept, _LOG).exists():
        _merge_log(file, draft.parent)
    for suffix in (_LOG, _INDEX):
        _beside(file, suffix).unlink(missing_ok=True)
    sync_folder(file.parent)
    draft.replace(file)
    sync_folder(file.parent)
    return kept


def _keep(file: Path, folder: Path) -> Path:
    """Give the old catalog and its log a second name."""
    kept = file.with_name(f"{file.name}.old-{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}")
    for suffix in (_LOG, ""):
        path = _beside(file, suffix)
        if not path.exists():
            continue
        try:
            os.link(path, _beside(kept, suffix))
        except OSError:  # This file system has no links.
            shutil.copyfile(path, folder / "kept")
            (folder / "kept").replace(_beside(kept, suffix))
    sync_folder(file.parent)
    return kept


def _merge_log(file: Path, folder: Path) -> None:
    """Replace the old catalog by a copy that has what its log has, too.

    With its log and without it, the copy is whole.
    """
    merged = folder / "merged"
    try:
        copy_file(file, merged)
    except OSError as error:
        if not is_unreadable(error.__cause__):
            raise
        return  # With its log, too, it is not whole.
    sync_file(merged)
    merged.replace(file)
    sync_folder(file.parent)


def _connect(file: Path, mode: str) -> sqlite3.Connection:
    address = f"{file.absolute().as_uri()}?mode={mode}"
    return sqlite3.connect(address, BUSY_SECONDS, isolation_level=None, uri=True)


def _beside(file: Path, suffix: str) -> Path:
    return file.with_name(f"{file.name}{suffix}")
