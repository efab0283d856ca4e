"""The files in which the worker processes of a service add up their metrics.

`prometheus_client` maps these files into memory. A process that writes to a mapped file dies if the
disk is full and the file has no place on it yet, so the files get their whole size first. Each
worker takes over the files of one that has ended, so that there are never more files than workers.
"""

import logging
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from itertools import count
from pathlib import Path
from tempfile import mkdtemp
from typing import IO

from prometheus_client import values
from prometheus_client.mmap_dict import MmapedDict

from imgcache_scrapy.core.files import try_lock
from imgcache_scrapy.core.text import reason_of
from imgcache_scrapy.server.metrics import SHARED_FOLDER

FOLDER = "IMGCACHE_METRICS_FOLDER"
"""The environment variable with the folder of the files."""
_PREFIX = "imgcache-metrics-"
_LOCK = "lock"
# In bytes, for all series of each kind; 2,000 series of histograms take 400 KB.
_SIZES = {"counter": 2**16, "histogram": 2**20}
_held_locks: list[IO[bytes]] = []

logger = logging.getLogger(__name__)


@contextmanager
def metrics_folder(places: Iterable[Path]) -> Iterator[None]:
    """Give worker processes a folder for their metrics; remove it at the end.

    Folders that killed services left in the same places are removed, too.

    Args:
        places: existing folders; the first in which a folder can be created is used. If there is
            none, each worker has only its own metrics.
    """
    folder = None
    for place in places:
        _sweep(place)
        if folder is None:
            with suppress(OSError):
                folder = Path(mkdtemp(prefix=_PREFIX, dir=place))
    if folder is None:
        logger.warning("There is no place for shared metrics: each worker shows only its own")
        yield
        return
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        with suppress(OSError):
            stack.enter_context(_locked(folder / _LOCK) or nullcontext())
        os.environ[FOLDER] = str(folder)
        yield


def share_metrics() -> None:
    """Let the metrics of this worker process, which are created later, be shared with the others.

    Does nothing without a folder for them. If the disk is full, they are not shared.
    """
    folder = os.environ.get(FOLDER)
    if not folder:
        return
    try:
        number = _claimed_number(Path(folder))
        for kind, size in _SIZES.items():
            _allocate(Path(folder, f"{kind}_{number}.db"), size)
    except OSError as error:
        logger.warning("The metrics of this worker process are not shared: %s", reason_of(error))
        return
    os.environ[SHARED_FOLDER] = folder
    values.ValueClass = values.MultiProcessValue(lambda: number)


def _claimed_number(folder: Path) -> int:
    """Return a number that no other running worker has; it is free again when this one ends."""
    for number in count():
        lock = _locked(folder / f"worker-{number}")
        if lock is not None:
            _held_locks.append(lock)
            return number
    raise AssertionError


def _allocate(path: Path, size: int) -> None:
    """Create a file of this size, unless there is a sound one of a worker that has ended."""
    with suppress(Exception):
        if path.stat().st_size >= size:
            list(MmapedDict.read_all_values_from_file(path))
            return
    new = path.with_suffix(".new")
    try:
        new.write_bytes(bytes(size))
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)


def _sweep(place: Path) -> None:
    """Remove the folders of services that have ended; those of running services are locked."""
    if os.name == "nt":  # There are no locks.
        return
    for folder in place.glob(f"{_PREFIX}*"):
        with suppress(OSError):
            if not folder.is_symlink() and (folder / _LOCK).exists():
                lock = _locked(folder / _LOCK)
                if lock is not None:
                    with lock:
                        shutil.rmtree(folder)


def _locked(path: Path) -> IO[bytes] | None:
    """Lock a file until it is closed; return None if another process has locked it."""
    file = path.open("ab")
    if try_lock(file):
        return file
    file.close()
    return None
