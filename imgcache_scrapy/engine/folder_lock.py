"""Let only one process at a time back up into a folder, or rebuild its catalog."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from imgcache_scrapy.core.errors import UnavailableError

try:
    import fcntl
except ImportError:  # Windows: no locks
    fcntl = None  # type: ignore[assignment]


@contextmanager
def locked_folder(folder: Path, command: str) -> Iterator[None]:
    """Lock a folder; a process that is killed leaves it unlocked.

    Args:
        folder: the folder, which must exist.
        command: the name of the command, for the error.

    Raises:
        UnavailableError: another process has locked it.
    """
    if fcntl is None:
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise UnavailableError(
            f"another `imgcache {command}` uses {folder}: run this again when it has ended"
        ) from error
    except OSError:
        pass  # A network file system may have no locks.
    try:
        yield
    finally:
        os.close(descriptor)
