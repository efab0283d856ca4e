"""Convert pictures in threads, so that the event loop is not blocked."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from io import BytesIO
from tempfile import TemporaryFile
from typing import IO, Any, NamedTuple, cast

from scrapy import Request
from scrapy.http import Response
from scrapy.pipelines.images import ImagesPipeline
from scrapy.pipelines.media import MediaPipeline

from imgcache_scrapy.core.formats import sniff
from imgcache_scrapy.plugin import meta
from imgcache_scrapy.plugin.responses import is_from_cache

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


class Converted(NamedTuple):
    """The converted files of a response.

    Attributes:
        path: the path of the first file; the others are thumbnails.
        files: the picture's size and the content of each file.
        error: why there are no more files; None if there is no error.
    """

    path: str
    files: list[tuple[PictureSize, BytesIO]]
    error: Exception | None


class Converter:
    """Converts pictures in a few threads, with the code of Scrapy's pipeline.

    Args:
        pipeline: the pipeline, for its settings.
    """

    def __init__(self, pipeline: ImagesPipeline) -> None:
        self._unnamed = cast("ImagesPipeline", _UnnamedFiles(pipeline))
        self._unchanged = cast("ImagesPipeline", _UnnamedFiles(pipeline, keeps_picture=True))
        self._threads = ThreadPoolExecutor(_THREADS, "imgcache-convert")
        self._pending = asyncio.Semaphore(_MAX_PENDING)
        self._converted: dict[Response, Converted] = {}

    @asynccontextmanager
    async def converting(
        self, path: str, response: Response, request: Request, info: MediaPipeline.SpiderInfo
    ) -> AsyncIterator[None]:
        """Convert a response in a thread; in the block, `take` returns its files.

        Args:
            path: the path of the first file.
            response: the response with the picture.
            request: its request.
            info: of the spider.
        """
        unnamed = self._unchanged if is_scrapys_jpeg(response) else self._unnamed
        images = ImagesPipeline.get_images(unnamed, response, request, info)
        async with self._pending:
            loop = asyncio.get_running_loop()
            files, error = await loop.run_in_executor(self._threads, _convert, images)
        self._converted[response] = Converted(path, files, error)
        try:
            yield
        finally:
            self._converted.pop(response, None)

    def take(self, response: Response) -> Converted | None:
        """Return the converted files of a response once; None if there are none."""
        return self._converted.pop(response, None)


class _UnnamedFiles:
    """A pipeline whose files have no names: hooks must not run in a thread.

    Args:
        pipeline: the pipeline.
        keeps_picture: whether the picture itself is not encoded again; thumbnails always are.
    """

    def __init__(self, pipeline: ImagesPipeline, *, keeps_picture: bool = False) -> None:
        self._pipeline = pipeline
        self._keeps_picture = keeps_picture

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pipeline, name)

    def file_path(self, *_: Any, **__: Any) -> str:
        return ""

    thumb_path = file_path

    def convert_image(
        self, image: Any, size: tuple[int, int] | None = None, *, response_body: BytesIO
    ) -> tuple[Any, BytesIO]:
        """Do the same as Scrapy; in the most common case, release the interpreter lock."""
        if self._keeps_picture and not size and image.mode == "RGB":
            return image, response_body
        if size or image.format is not None or image.mode != "RGB":
            return self._pipeline.convert_image(image, size, response_body=response_body)
        return image, _encode_jpeg(image)


def is_scrapys_jpeg(response: Response) -> bool:
    """Return whether a response is a hit with a JPEG that an ImagesPipeline has encoded."""
    entry = response.meta.get(meta.ENTRY, {}) if is_from_cache(response) else {}
    return bool(entry.get("converted")) and sniff(response.body) == "image/jpeg"


def _convert(
    images: Iterable[tuple[str, Any, BytesIO]],
) -> tuple[list[tuple[PictureSize, BytesIO]], Exception | None]:
    files = []
    try:
        for _, picture, content in images:
            files.append((PictureSize(picture.size), content))
    except Exception as error:
        return files, error
    return files, None


def _encode_jpeg(picture: Any) -> BytesIO:
    # Only into a real file does Pillow write without the interpreter lock.
    with _open_memory_file() as file:
        picture.save(file, "JPEG")
        file.seek(0)
        return BytesIO(file.read())


def _open_memory_file() -> IO[bytes]:
    if hasattr(os, "memfd_create"):
        return open(os.memfd_create("picture"), "w+b", buffering=0)  # noqa: PTH123
    return TemporaryFile(buffering=0)
