"""Let only one process at a time back up into a folder, or rebuild its catalog."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from imgcache_scrapy.core.errors import UnavailableError
from imgcache_scrapy.core.files import try_lock


@contextmanager
def locked_folder(folder: Path, command: str) -> Iterator[None]:
    """Lock a folder during a block; a process that is killed leaves it unlocked.

    Without locks, as on Windows, nothing is locked.

    Args:
        folder: the folder, which must exist.
        command: the name of the command, for the error.

    Raises:
        UnavailableError: another process has locked it.
    """
    if os.name == "nt":  # It cannot open a folder.
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    is_locked = True
    with suppress(OSError):
        is_locked = try_lock(descriptor)
    try:
        if not is_locked:
            raise UnavailableError(
                f"another `imgcache {command}` uses {folder}: run this again when it has ended"
            )
        yield
    finally:
        os.close(descriptor)
