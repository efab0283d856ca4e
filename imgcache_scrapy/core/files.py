"""How files are made to outlive a power cut."""

import os
from pathlib import Path


def write_synced(path: Path, data: bytes) -> None:
    """Write a new file whose bytes are on disk when this returns; its name may not be yet.

    Raises:
        FileExistsError: there is one of this name.
    """
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Have the names in a folder on disk when this returns."""
    if os.name == "nt":  # Windows has no handle to sync a folder by
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
