"""Read, measure, replace and list files where something else may be in their place."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from stat import S_ISREG
from uuid import uuid4

from imgcache_scrapy.core.errors import UnavailableError
from imgcache_scrapy.core.limits import MAX_IMAGE_BYTES
from imgcache_scrapy.engine.blobs.store import Found


def read(path: str, start: int, size: int) -> bytes | None:
    """Read a part of a file.

    Args:
        path: the file.
        start: the first byte.
        size: the number of bytes; -1 for all.

    Returns:
        The bytes; None if there is no file.

    Raises:
        UnavailableError: it is no regular file, or larger than an image may be.
        OSError: it cannot be read.
    """
    try:
        stat = os.stat(path)  # noqa: PTH116
        # Reading a pipe would wait forever, and a larger file could fill the memory.
        if not S_ISREG(stat.st_mode) or stat.st_size > MAX_IMAGE_BYTES:
            raise UnavailableError(
                f"the image storage failed: {path} is not a file that a cache has written"
            )
        with open(path, "rb", buffering=0, opener=_open_at_once) as file:
            file.seek(start)
            # A file of the kernel says that it is empty, and may have no end.
            return file.read(size if stat.st_size else 1)
    except FileNotFoundError:
        return None


def size_of(path: str) -> int | None:
    """Return the size of a file in bytes; None if there is no regular file."""
    try:
        stat = os.stat(path)  # noqa: PTH116
    except OSError:
        return None
    return stat.st_size if S_ISREG(stat.st_mode) else None


def replace(temporary: str, path: str) -> None:
    """Rename a file; replace what is in its place, also a folder."""
    try:
        os.replace(temporary, path)  # noqa: PTH105
    except IsADirectoryError:
        in_place = Path(path)
        try:
            in_place.rmdir()
        except OSError:
            # Moved aside, because somebody may miss the files in it.
            in_place.rename(f"{path}#{uuid4().hex}")
        Path(temporary).replace(path)


def files_in(folder: Path, prefix: str, *, whole: bool) -> Iterator[Found]:
    """Yield the regular files in a folder.

    Args:
        folder: the folder; it may be missing.
        prefix: what to write before the name of each file.
        whole: whether a file that cannot be read raises its error; else it is left out.
    """
    if not folder.exists():
        return
    with os.scandir(folder) as entries:
        for entry in entries:
            # It is gone, or cannot be read.
            with suppress(FileNotFoundError if whole else OSError):
                stat = entry.stat(follow_symlinks=False)
                if S_ISREG(stat.st_mode):
                    yield Found(f"{prefix}{entry.name}", stat.st_size, stat.st_mtime)


def _open_at_once(path: str, flags: int) -> int:
    # Reading a file of the kernel, such as /proc/kmsg, would wait for its next bytes.
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
