"""Convert pictures in threads, so that the event loop is not blocked."""

import asyncio
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from tempfile import TemporaryFile
from typing import IO, Any, NamedTuple

# Pillow releases the interpreter lock while it decodes and encodes.
_THREADS = 2
# More pictures than threads, so that a thread finds its next picture without waiting for the loop.
_MAX_PENDING = 8


class PictureSize(NamedTuple):
    """Stands for a converted picture, whose pixels would use megabytes of memory.

    Attributes:
        size: width and height in pixels.
    """

    size: tuple[int, int]


Converted = tuple[str, PictureSize, BytesIO]
"""Path, picture size and content of a converted file."""


class Converter:
    """Converts pictures in a few threads; use it within one event loop."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_THREADS, "imgcache-convert")
        self._pending = asyncio.Semaphore(_MAX_PENDING)

    async def convert(self, files: Iterable[tuple[str, Any, BytesIO]]) -> list[Converted]:
        """Iterate over files in a thread.

        Args:
            files: path, picture and content of each file; iterating over them converts them.
        """
        async with self._pending:
            return await asyncio.get_running_loop().run_in_executor(self._threads, _convert, files)


def encode_jpeg(picture: Any) -> BytesIO:
    """Encode a Pillow image as JPEG.

    It writes into a real file: only then does Pillow release the interpreter lock.
    """
    with _open_memory_file() as file:
        picture.save(file, "JPEG")
        file.seek(0)
        return BytesIO(file.read())


def _convert(files: Iterable[tuple[str, Any, BytesIO]]) -> list[Converted]:
    return [(path, PictureSize(picture.size), content) for path, picture, content in files]


def _open_memory_file() -> IO[bytes]:
    if hasattr(os, "memfd_create"):
        return open(os.memfd_create("picture"), "w+b", buffering=0)  # noqa: PTH123
    return TemporaryFile(buffering=0)
