"""Export: reads images in batches, and writes them in one of four formats."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Iterator
from contextlib import aclosing, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from imgcache_scrapy.cli.transfer.file_export import FileExport, Planned
from imgcache_scrapy.cli.transfer.naming import DEFAULT_TEMPLATE, checked_template
from imgcache_scrapy.cli.transfer.picture_reader import Images, PictureReader
from imgcache_scrapy.cli.transfer.pictures import Picture, PictureList, Splits
from imgcache_scrapy.cli.transfer.shards import (
    DEFAULT_BYTES,
    ShardFormat,
    digest_of,
    left_shards,
    shard_path,
    shards_of,
)
from imgcache_scrapy.cli.transfer.sources import Problem
from imgcache_scrapy.cli.transfer.threads import to_end
from imgcache_scrapy.cli.transfer.uses import has_uses, uses_of_images
from imgcache_scrapy.cli.transfer.webdataset import TarFormat
from imgcache_scrapy.client.address import folder_of
from imgcache_scrapy.client.client import AsyncImgCacheClient
from imgcache_scrapy.core.errors import ConfigurationError
from imgcache_scrapy.core.filters import Filters
from imgcache_scrapy.core.limits import MAX_PAGE_ENTRIES

FORMATS = ("files", "imagefolder", "webdataset", "parquet")
COUNTS = ("images", "written", "kept", "bad")
"""What an export counts: the images, those written now, those that were there already, and those
that were skipped or left over for a reason."""

# The bytes of a batch are in memory; the next batch is read while one is written.
_MAX_IMAGES = 64
_MAX_BYTES = 32 * 2**20
_MANIFESTS = {"files": "manifest.jsonl", "imagefolder": "metadata.jsonl"}
_LEFT = "it is left from an earlier export: remove it"


@dataclass
class Export:
    """What to export, and what is called meanwhile.

    Attributes:
        folder: where to; it is created.
        format: one of `FORMATS`.
        filters: which captures; each image is exported once.
        template: the template of the names of `files`.
        splits: the share of each split.
        shard_bytes: the size of a shard of `webdataset` or `parquet`.
        on_problem: called for each image that is skipped, and for each file that is left over.
        on_total: called with the number of images, when it is known.
        on_progress: called with the number of images since the last call.
    """

    folder: Path
    format: str = "files"
    filters: Filters = field(default_factory=Filters)
    template: str = DEFAULT_TEMPLATE
    splits: Splits = field(default_factory=dict)
    shard_bytes: int = DEFAULT_BYTES
    on_problem: Callable[[Problem], None] = lambda _: None
    on_total: Callable[[int], None] = lambda _: None
    on_progress: Callable[[int], None] = lambda _: None


def export_images(cache: str, what: Export, **options: Any) -> Counter[str]:
    """Export images of a cache; what is in the folder already is not written again.

    Args:
        cache: `http(s)://…` for a service; `file://…` or a path for a folder.
        what: what to export.
        options: further arguments of `AsyncImgCacheClient`, such as `token`.

    Returns:
        The numbers that `COUNTS` names.

    Raises:
        ConfigurationError: there is no such format, or the template is not valid, or a library is
            missing.
        InvalidRequestError: there is no such filter.
        ImgCacheError: the cache fails.
    """
    if what.format not in FORMATS:
        raise ConfigurationError(
            f"there is no format {what.format!r:.40}: use {', '.join(FORMATS)}"
        )
    checked_template(what.template)
    shard_format = None if what.format in _MANIFESTS else _shard_format(what.format)
    return asyncio.run(_export(cache, what, shard_format, options))


def _shard_format(name: str) -> ShardFormat:
    if name == "webdataset":
        return TarFormat()
    try:
        # Imported here, because only this format needs the library.
        from imgcache_scrapy.cli.transfer.parquet import ParquetFormat  # noqa: PLC0415
    except ImportError as error:
        raise ConfigurationError(
            "parquet needs a library: pip install 'imgcache-scrapy[parquet]'"
        ) from error
    return ParquetFormat()


async def _export(
    cache: str, what: Export, shard_format: ShardFormat | None, options: dict[str, Any]
) -> Counter[str]:
    with PictureList(what.splits) as pictures:
        async with AsyncImgCacheClient(cache, None, **options) as client:
            await _fill(pictures, client, what.filters)
            is_embedded = folder_of(cache) is not None
            run = _Run(what, PictureReader(client, what.on_problem, is_embedded=is_embedded))
            run.counts["images"] = len(pictures)
            what.on_total(len(pictures))
            what.folder.mkdir(parents=True, exist_ok=True)
            for split in what.splits or [""]:
                if shard_format is not None:
                    await run.shards(pictures.pictures(split), split, shard_format)
                elif pictures.has(split) or run.manifest(split).exists():
                    await run.files(pictures.pictures(split), split)
    return run.counts


async def _fill(pictures: PictureList, client: AsyncImgCacheClient, filters: Filters) -> None:
    after, with_uses = None, await has_uses(client)
    while True:
        page = await client.list(limit=MAX_PAGE_ENTRIES, after=after, **filters)
        await to_end(pictures.add, page)
        if with_uses:
            names = {each["content_hash"] for each in page}
            pictures.add_uses(await uses_of_images(client, sorted(names), filters))
        after = page.after
        if after is None:
            return


class _Run:
    """One run of an export.

    Args:
        what: what to export.
        reader: reads the images.

    Attributes:
        counts: the numbers that `COUNTS` names.
    """

    def __init__(self, what: Export, reader: PictureReader) -> None:
        self._what = what
        self._reader = reader
        self.counts = Counter(dict.fromkeys(COUNTS, 0))

    def manifest(self, split: str) -> Path:
        """Return the path of the manifest of a split."""
        return self._what.folder / split / _MANIFESTS[self._what.format]

    async def files(self, pictures: Iterable[Picture], split: str) -> None:
        """Write the pictures of a split into files."""
        with closing(FileExport(self.manifest(split), self._what.template)) as export:

            async def planned_batches() -> AsyncIterator[tuple[list[Planned], Images]]:
                for batch in _batches(pictures):
                    planned = await to_end(export.plan, batch)
                    wanted = [each.picture for each in planned if not each.is_there]
                    yield planned, await self._reader.read(wanted)

            async with aclosing(_ahead(planned_batches())) as all_planned:
                async for planned, images in all_planned:
                    found = [(each, images.get(each.picture.content_hash)) for each in planned]
                    await to_end(export.write, found)
                    kept = sum(each.is_there for each in planned)
                    self._count(len(planned), kept, len(images))
            self._report_left(await to_end(export.finish))

    async def shards(
        self, pictures: Iterable[Picture], split: str, shard_format: ShardFormat
    ) -> None:
        """Write the pictures of a split into shards."""
        what, suffix, number = self._what, shard_format.suffix, 0
        for number, shard in enumerate(shards_of(pictures, what.shard_bytes), 1):
            path = shard_path(what.folder, split, number - 1, suffix)
            digest = digest_of(shard)
            if await to_end(shard_format.is_complete, path, digest, len(shard)):
                self._count(len(shard), len(shard), 0)
                continue
            await self._shard(shard, path, shard_format, digest)
        self._report_left(left_shards(what.folder, split, number, suffix))

    async def _shard(
        self, shard: list[Picture], path: Path, shard_format: ShardFormat, digest: str
    ) -> None:
        draft = path.with_name(f".{path.name}.part")
        with closing(shard_format.open(draft, digest)) as writer:

            async def batches() -> AsyncIterator[tuple[list[Picture], Images]]:
                for batch in _batches(shard):
                    yield batch, await self._reader.read(batch)

            async with aclosing(_ahead(batches())) as all_read:
                async for batch, images in all_read:
                    found = [
                        (each, images[each.content_hash])
                        for each in batch
                        if each.content_hash in images
                    ]
                    await to_end(writer.add, found)
                    self._count(len(batch), 0, len(found))
        draft.replace(path)

    def _count(self, images: int, kept: int, written: int) -> None:
        self.counts.update(kept=kept, written=written, bad=images - kept - written)
        self._what.on_progress(images)

    def _report_left(self, names: Iterable[str]) -> None:
        for name in names:
            self.counts["bad"] += 1
            self._what.on_problem(Problem(name, _LEFT))


async def _ahead(batches: AsyncIterator[Any]) -> AsyncGenerator[Any]:
    """Yield batches; while one is used, the next one is made, until the generator is closed."""

    async def following() -> Any:
        return await anext(batches, None)

    task = asyncio.create_task(following())
    try:
        while (batch := await task) is not None:
            task = asyncio.create_task(following())
            yield batch
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _batches(pictures: Iterable[Picture]) -> Iterator[list[Picture]]:
    batch: list[Picture] = []
    size = 0
    for picture in pictures:
        if batch and (len(batch) >= _MAX_IMAGES or size + picture.size > _MAX_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(picture)
        size += picture.size
    if batch:
        yield batch
