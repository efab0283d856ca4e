"""ConfinedFolder: reads files of a folder, and never a file outside of it."""

import gzip
import os
import stat
import zlib
from io import BytesIO
from pathlib import Path

from imgcache_scrapy.core.limits import MAX_IMAGE_BYTES
from imgcache_scrapy.core.text import printable

_GZIP = b"\x1f\x8b"


class BadFileError(Exception):
    """A file, or a line of a list, that cannot be imported; the message says why."""


class ConfinedFolder:
    """A folder whose files may be read.

    Args:
        folder: the folder, which must exist.

    Attributes:
        root: its absolute path without links.
    """

    def __init__(self, folder: Path) -> None:
        self.root = folder.resolve(strict=True)

    def find(self, name: str) -> tuple[Path, os.stat_result]:
        """Find a regular file.

        Args:
            name: its path in the folder, or an absolute path that leads into the folder.

        Returns:
            The path without links, and what the system says about the file.

        Raises:
            BadFileError: there is no such file, or it is no regular file, or it is not in the
                folder.
        """
        try:
            path = (self.root / name).resolve(strict=True)
            facts = path.lstat()
        except (OSError, ValueError, RuntimeError) as error:
            raise BadFileError(_reason(error)) from error
        if not path.is_relative_to(self.root):
            raise BadFileError("the path leads out of the folder")
        if not stat.S_ISREG(facts.st_mode):
            raise BadFileError("it is not a regular file")
        return path, facts

    def read(self, name: str, max_bytes: int = MAX_IMAGE_BYTES) -> bytes:
        """Read a file; see `find`.

        Raises:
            BadFileError: there is no such file, or it cannot be read, or it is too large.
        """
        path, facts = self.find(name)
        if facts.st_size > max_bytes:
            raise BadFileError(f"the file has more than {max_bytes:,} bytes")
        try:
            # The file may be replaced by a link or a pipe since it was found.
            flags = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
            flags |= getattr(os, "O_BINARY", 0)
            with open(os.open(path, os.O_RDONLY | flags), "rb") as file:  # noqa: PTH123
                data = file.read(max_bytes + 1)
        except OSError as error:
            raise BadFileError(_reason(error)) from error
        if len(data) > max_bytes:
            raise BadFileError(f"the file has more than {max_bytes:,} bytes")
        return data


def is_gzip(data: bytes) -> bool:
    """Return whether data is compressed by gzip."""
    return data.startswith(_GZIP)


def gunzipped(data: bytes, max_bytes: int = MAX_IMAGE_BYTES) -> bytes:
    """Decompress data of gzip, and stop if there is too much of it.

    Raises:
        BadFileError: the content is too large or damaged.
    """
    try:
        with gzip.GzipFile(fileobj=BytesIO(data)) as file:
            content = file.read(max_bytes + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise BadFileError("its compressed content is damaged") from error
    if len(content) > max_bytes:
        raise BadFileError(f"its content has more than {max_bytes:,} bytes")
    return content


def _reason(error: Exception) -> str:
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return "there is no such file"
    if isinstance(error, OSError) and error.strerror:
        return f"it cannot be read: {error.strerror}"
    return f"it cannot be read: {printable(error)}"
