"""Converts pictures beside the event loop."""

import asyncio
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from tempfile import TemporaryFile
from typing import IO, Any, NamedTuple

# What decodes and encodes leaves the interpreter to others.
_THREADS = 2
# So many wait for a thread or for the loop, so that no thread ever waits for the loop.
_AHEAD = 8


class Sized(NamedTuple):
    """What is left of a picture that was converted; its pixels are megabytes.

    Attributes:
        size: width and height in pixels.
    """

    size: tuple[int, int]


Converted = tuple[str, Sized, BytesIO]
"""The path of a file, its picture, and its content."""


class Converter:
    """A few threads that convert pictures; to be used within one event loop."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_THREADS, "imgcache-convert")
        self._ahead = asyncio.Semaphore(_AHEAD)

    async def convert(self, files: Iterable[tuple[str, Any, BytesIO]]) -> list[Converted]:
        """Go through what converts as it is iterated, in a thread.

        Args:
            files: path, picture and content of each file.
        """
        async with self._ahead:
            return await asyncio.get_running_loop().run_in_executor(self._threads, _all, files)


def encoded(picture: Any) -> BytesIO:
    """Encode a Pillow image as JPEG; Pillow lets others run only while it writes into a file."""
    with _file_in_memory() as file:
        picture.save(file, "JPEG")
        file.seek(0)
        return BytesIO(file.read())


def _all(files: Iterable[tuple[str, Any, BytesIO]]) -> list[Converted]:
    return [(path, Sized(picture.size), content) for path, picture, content in files]


def _file_in_memory() -> IO[bytes]:
    if hasattr(os, "memfd_create"):
        return open(os.memfd_create("picture"), "w+b", buffering=0)  # noqa: PTH123
    return TemporaryFile(buffering=0)
