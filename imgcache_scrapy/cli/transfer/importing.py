"""Import: reads tasks in batches, and stores what the cache does not have yet."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from imgcache_scrapy.cli.transfer import sources
from imgcache_scrapy.cli.transfer.confined import ConfinedFolder
from imgcache_scrapy.cli.transfer.reader import Loaded, Reader
from imgcache_scrapy.cli.transfer.sources import Columns, Problem
from imgcache_scrapy.cli.transfer.targets import CacheTarget, DryTarget, Newest
from imgcache_scrapy.cli.transfer.tasks import Defaults, Place, Task, TaskList
from imgcache_scrapy.cli.transfer.threads import to_end
from imgcache_scrapy.client.admission import Admission
from imgcache_scrapy.client.client import AsyncImgCacheClient
from imgcache_scrapy.core.admission import MESSAGES
from imgcache_scrapy.core.errors import (
    BlockedError,
    ConfigurationError,
    InvalidRequestError,
    StoreFailedError,
    TooLargeError,
)
from imgcache_scrapy.core.limits import MAX_IMAGE_BYTES
from imgcache_scrapy.core.text import quoted

COUNTS = ("files", "stored", "duplicate", "known", "other", "bad")
"""What an import counts: captures to import; new images, known images under a new URL, captures
that the cache has already, responses that are no image, and what was skipped for a reason."""

# The files of a batch are in memory. Of three batches, one is decoded while others are read and
# synced to disk.
_MAX_FILES = 64
_MAX_BYTES = 32 * 2**20
_MAX_BATCHES = 3
_NO_PICTURE = {"empty", "html", "not_image"}


@dataclass
class Import:
    """What to import, and what is called meanwhile.

    Attributes:
        folder: the folder with the files.
        items: the feed of the items, if the folder is an `IMAGES_STORE` or a `FILES_STORE`.
        manifest: the manifest that names the files and their URLs.
        columns: the columns of the manifest.
        result_field: the field of the items that has the results; None for every field.
        defaults: what the captures have in common.
        excluded: a folder in the folder that is left out.
        dry_run: True to count only.
        max_image_bytes: size of the largest image that is imported, in bytes.
        on_problem: called for each file that is skipped.
        on_total: called with the number of captures to import, when it is known.
        on_progress: called with the number of captures that were imported since the last call.
    """

    folder: Path
    items: Path | None = None
    manifest: Path | None = None
    columns: Columns = field(default_factory=Columns)
    result_field: str | None = None
    defaults: Defaults = field(default_factory=Defaults)
    excluded: Path | None = None
    dry_run: bool = False
    max_image_bytes: int = MAX_IMAGE_BYTES
    on_problem: Callable[[Problem], None] = lambda _: None
    on_total: Callable[[int], None] = lambda _: None
    on_progress: Callable[[int], None] = lambda _: None


def import_images(cache: str, what: Import, **options: object) -> Counter[str]:
    """Import images into a cache; what it has already is not imported again.

    Args:
        cache: `http(s)://…` for a service; `file://…` or a path for a folder.
        what: what to import.
        options: further arguments of `AsyncImgCacheClient`, such as `token`.

    Returns:
        The numbers that `COUNTS` names.

    Raises:
        ConfigurationError: the folder or the list cannot be read, or the list names no file.
        ImgCacheError: the cache fails.
    """
    return asyncio.run(_import(cache, what, options))


async def _import(cache: str, what: Import, options: dict[str, object]) -> Counter[str]:
    if not what.folder.is_dir():
        raise ConfigurationError(f"there is no folder {what.folder}: give the folder of the files")
    folder = ConfinedFolder(what.folder)
    with TaskList() as tasks:
        counts = _fill(tasks, folder, what)
        what.on_total(len(tasks))
        async with AsyncImgCacheClient(cache, None, **options) as client:  # type: ignore[arg-type]
            target = await DryTarget.open(client) if what.dry_run else CacheTarget(client)
            run = _Run(target, Reader(folder), what, counts)
            await run.all(tasks)
    counts["files"] = sum(counts[name] for name in ("stored", "duplicate", "known", "bad"))
    return counts


def _fill(tasks: TaskList, folder: ConfinedFolder, what: Import) -> Counter[str]:
    if what.items is not None:
        found = sources.in_feed(folder, what.items, what.defaults, what.result_field)
    elif what.manifest is not None:
        found = sources.in_manifest(folder, what.manifest, what.defaults, what.columns)
    else:
        found = sources.in_folder(folder, what.defaults, what.excluded)
    counts = Counter(dict.fromkeys(COUNTS, 0))
    for each in found:
        if isinstance(each, Task):
            tasks.add(each)
        elif each is None:
            counts["other"] += 1
        else:
            counts["bad"] += 1
            what.on_problem(each)
    if not (len(tasks) or counts["bad"]):
        _refuse_empty_list(what)
    return counts


def _refuse_empty_list(what: Import) -> None:
    """Refuse a list, because it names no file: it is the wrong one, or an option is wrong."""
    if what.items is not None:
        place = "" if what.result_field is None else f" in its field {quoted(what.result_field)}"
        raise ConfigurationError(
            f"no item of {what.items} has a result{place}: a result has a `url` and a `path`"
        )
    if what.manifest is not None:
        raise ConfigurationError(f"{what.manifest} has no rows")


class _Run:
    """One run of an import."""

    def __init__(
        self, target: CacheTarget, reader: Reader, what: Import, counts: Counter[str]
    ) -> None:
        self._target = target
        self._reader = reader
        self._what = what
        self._counts = counts
        self._admission = Admission(what.max_image_bytes)

    async def all(self, tasks: Iterable[Task]) -> None:
        """Import all tasks: while one batch is stored, the next one is read."""
        running: dict[asyncio.Task[None], set[str]] = {}
        try:
            for batch in _batches(tasks):
                urls = {task.cache_key for task in batch}
                # The captures of one URL must be recorded one after another.
                while len(running) >= _MAX_BATCHES or any(urls & its for its in running.values()):
                    await self._finish(running)
                running[asyncio.create_task(self._batch(batch))] = urls
            while running:
                await self._finish(running)
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
            self._reader.close()
            await self._admission.aclose()

    async def _finish(self, running: dict[asyncio.Task[None], set[str]]) -> None:
        done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            del running[task]
            task.result()

    async def _batch(self, tasks: list[Task]) -> None:
        all_loaded = await to_end(lambda: list(map(self._reader.load, tasks)))
        good = [each for each in all_loaded if await self._is_good(each)]
        newest = await self._target.newest([each.task for each in good])
        known = [each for each in good if each.task.cache_key in newest]
        # They are compared by their hashes, which would block the event loop.
        await to_end(lambda: [each.content_hash for each in known])
        results = await asyncio.gather(
            *(self._one(each, newest.get(each.task.cache_key)) for each in good),
            return_exceptions=True,
        )
        for error in results:
            if error is not None:
                raise error
        await self._target.record_uses(good)
        self._what.on_progress(len(tasks))

    async def _is_good(self, loaded: Loaded) -> bool:
        if loaded.error is not None:
            self._report(loaded.task, loaded.error)
            return False
        reason = await self._admission.refusal(loaded.data)
        if reason is None:
            return True
        if reason in _NO_PICTURE and Place.unpacked(loaded.task.place).kind != "file":
            self._counts["other"] += 1
        else:
            self._report(loaded.task, MESSAGES[reason].replace("response", "file"))
        return False

    async def _one(self, loaded: Loaded, newest: Newest | None) -> None:
        try:
            if newest is not None and await self._is_known(loaded, newest):
                self._counts["known"] += 1
            else:
                self._counts[await self._target.store(loaded)] += 1
        except (BlockedError, InvalidRequestError, StoreFailedError, TooLargeError) as error:
            self._report(loaded.task, str(error))

    async def _is_known(self, loaded: Loaded, newest: Newest) -> bool:
        content_hash, time = newest
        if content_hash == loaded.content_hash:
            return not loaded.task.has_time or time >= loaded.task.time
        return await self._target.has_older(loaded)

    def _report(self, task: Task, reason: str) -> None:
        place = Place.unpacked(task.place)
        self._counts["bad"] += 1
        name = f"{place.name}, {place.key}" if place.key else place.name
        self._what.on_problem(Problem(name, reason))


def _batches(tasks: Iterable[Task]) -> Iterator[list[Task]]:
    """Divide tasks into batches, in which each URL is once."""
    batch: list[Task] = []
    urls: set[str] = set()
    size = 0
    for task in tasks:
        name = task.cache_key
        if batch and (len(batch) >= _MAX_FILES or size + task.size > _MAX_BYTES or name in urls):
            yield batch
            batch, urls, size = [], set(), 0
        batch.append(task)
        urls.add(name)
        size += task.size
    if batch:
        yield batch
