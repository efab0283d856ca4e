"""Download the selected pictures: as a zip, or as a manifest with a line of JSON for each."""

import json
import zipfile
from collections.abc import AsyncGenerator, Callable
from datetime import datetime
from typing import Any

from fastapi import APIRouter, Response

from imgcache_scrapy.core.entry import Entry
from imgcache_scrapy.core.errors import NotFoundError
from imgcache_scrapy.engine.async_cache import AsyncImageCache
from imgcache_scrapy.engine.reading import parts
from imgcache_scrapy.server.bodies import PART_BYTES, AnswerMemory, StreamedResponse
from imgcache_scrapy.server.ui.access import Form
from imgcache_scrapy.server.ui.acts import hashes_of
from imgcache_scrapy.server.ui.tiles import download_name

_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
# The first year that a zip can write.
_FIRST_YEAR = 1980


def add_downloads(router: APIRouter, images: AsyncImageCache, memory: AnswerMemory) -> None:
    """Add the routes of the downloads; they change nothing."""

    def download(made: AsyncGenerator[bytes, None], name: str, media_type: str) -> Response:
        headers = {**_HEADERS, "Content-Disposition": f'attachment; filename="{name}"'}
        return StreamedResponse(
            memory, memory.limited(made), None, headers=headers, media_type=media_type
        )

    @router.post("/ui/zip")
    async def as_zip(form: Form) -> Response:
        return download(zip_of(images, hashes_of(form)), "pictures.zip", "application/zip")

    @router.post("/ui/manifest")
    async def as_manifest(form: Form) -> Response:
        made = _manifest(images, hashes_of(form))
        return download(made, "pictures.jsonl", "application/jsonl; charset=utf-8")


class _Drain:
    """A file that cannot seek, from which another part takes what is written."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._parts.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """Do nothing: nothing is kept back."""

    def take(self) -> bytes:
        found = b"".join(self._parts)
        self._parts.clear()
        return found


async def zip_of(images: AsyncImageCache, names: list[str]) -> AsyncGenerator[bytes, None]:
    """Make a zip of images part by part, so that it is never in memory as a whole.

    The last file in it is `manifest.jsonl`, which says for each image what it is, or what is wrong
    with it. Images are not compressed again.

    Args:
        images: the cache.
        names: the content hashes of the images.
    """
    drain = _Drain()
    lines = []
    with zipfile.ZipFile(drain, "w", zipfile.ZIP_STORED) as archive:  # type: ignore[call-overload]
        for place, name in enumerate(names, 1):
            entry = await _newest(images, name)
            line: dict[str, Any] = {"content_hash": name} if entry is None else {**entry}
            if entry is None:
                line["error"] = "the cache does not have it"
            else:
                file_name = f"{place:04}-{download_name(entry)}"
                try:
                    async for part in _packed(images, archive, drain.take, entry, file_name):
                        yield part
                    line["file"] = file_name
                except NotFoundError as error:
                    line["error"] = str(error)
            lines.append(json.dumps(line, ensure_ascii=False))
        archive.writestr("manifest.jsonl", "\n".join([*lines, ""]))
    yield drain.take()


async def _packed(
    images: AsyncImageCache,
    archive: zipfile.ZipFile,
    take: Callable[[], bytes],
    entry: Entry,
    file_name: str,
) -> AsyncGenerator[bytes, None]:
    """Add an image to a zip; yield what is written.

    Raises:
        NotFoundError: its bytes are missing. If they are found to be damaged later, the file in
            the zip is cut off.
    """
    name, size = entry["content_hash"], entry["file_size_bytes"]
    read = parts(images, name, size, range(size), PART_BYTES)
    first = await anext(read)
    time = datetime.fromisoformat(entry["lookup_time"])
    info = zipfile.ZipInfo(file_name, (max(time.year, _FIRST_YEAR), *time.timetuple()[1:6]))
    with archive.open(info, "w", force_zip64=False) as file:
        file.write(first)
        yield take()
        async for part in read:
            file.write(part)
            yield take()


async def _manifest(images: AsyncImageCache, names: list[str]) -> AsyncGenerator[bytes, None]:
    for name in names:
        entry = await _newest(images, name)
        line = entry or {"content_hash": name, "error": "the cache does not have it"}
        yield json.dumps(line, ensure_ascii=False).encode() + b"\n"


async def _newest(images: AsyncImageCache, content_hash: str) -> Entry | None:
    page = await images.captures_page(content_hash, None, 1, None)
    return page.entries[0] if page.entries else None
