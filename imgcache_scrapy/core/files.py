"""Write files so that they survive a power cut; lock files; follow links."""

import os
from pathlib import Path
from typing import IO

try:
    import fcntl
except ImportError:  # Windows: no locks
    fcntl = None  # type: ignore[assignment]


def real_path(path: Path) -> Path:
    """Return the absolute path without links; links in a circle stay in it."""
    # `Path.resolve` raises a RuntimeError for those.
    return Path(os.path.realpath(path))


def write_new(path: str | Path, data: bytes) -> None:
    """Write a new file; call `sync_file` for its bytes and `sync_folder` for its name.

    Raises:
        FileExistsError: a file with this name exists.
    """
    with open(path, "xb") as file:  # noqa: PTH123 - a `Path` takes longer
        file.write(data)


def write_synced(path: str | Path, data: bytes) -> None:
    """Write a new file and wait until its bytes are on disk; call `sync_folder` for its name.

    Raises:
        FileExistsError: a file with this name exists.
    """
    write_new(path, data)
    sync_file(path)


def sync_folder(folder: str | Path) -> None:
    """Wait until the file names in a folder are on disk."""
    if os.name != "nt":  # Windows cannot sync a folder
        sync_file(folder)


def sync_file(path: str | Path) -> None:
    """Wait until the bytes of a file are on disk."""
    descriptor = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def try_lock(file: int | IO[bytes]) -> bool:
    """Lock an open file, or a descriptor, until it is closed; on Windows do nothing.

    Returns:
        False if another process has locked it.

    Raises:
        OSError: the file system has no locks, as some network file systems.
    """
    try:
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
