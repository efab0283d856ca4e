"""Rebuild a catalog in SQLite from its blobs; the URLs come from what is left of the old one."""

import shutil
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from imgcache_scrapy.core.batches import batches
from imgcache_scrapy.core.entry import UNKNOWN_TYPE
from imgcache_scrapy.core.errors import ConfigurationError, ImgCacheError
from imgcache_scrapy.engine.blobs.states import examine
from imgcache_scrapy.engine.blobs.store import BlobStore
from imgcache_scrapy.engine.catalog.database import database_call, sqlite_url
from imgcache_scrapy.engine.catalog.exchange import copy_file, exchange, without_writers
from imgcache_scrapy.engine.catalog.restoring import (
    MORE_TABLES,
    ReadableCaptures,
    ReadableRows,
    RestoringCatalog,
)
from imgcache_scrapy.engine.catalog.rows import Image
from imgcache_scrapy.engine.catalog.whole_rows import Row
from imgcache_scrapy.engine.decoding.decoders import Decoders
from imgcache_scrapy.engine.decoding.messages import NOT_DECODED
from imgcache_scrapy.engine.description import image_of
from imgcache_scrapy.engine.folder_lock import locked_folder
from imgcache_scrapy.engine.snapshots import snapshots_of

# Each may have 100 MiB.
_IMAGES_IN_MEMORY = 4
_BATCH_SIZE = 500
_DRAFTS = "#rebuild-"


class Rebuilt(NamedTuple):
    """The result of a rebuild.

    Attributes:
        images: number of sound images in the new catalog.
        captures: number of captures in it.
        without_url: number of these images without a capture; only their hash finds them.
        damaged: the hashes of images whose bytes are missing or wrong, or cannot be read; the new
            catalog has them as damaged, so that their blobs are not removed.
        source: the catalog or the snapshot whose rows were copied; None if there is none.
        kept: the file in which the old catalog is kept; None if there was none.
    """

    images: int
    captures: int
    without_url: int
    damaged: list[str]
    source: Path | None
    kept: Path | None


def rebuild(
    file: Path, blobs: BlobStore, *, on_progress: Callable[[int], None] = lambda _: None
) -> Rebuilt:
    """Make a new catalog from blobs, and put it in the place of the old one, which is kept.

    Others that use the cache meanwhile can read it, but cannot store. The captures come from the
    old catalog if it is whole; else those that can be read in it, and the others from the newest
    snapshot. A kill at any time leaves the old catalog or the new one whole.

    Args:
        file: the file of the catalog.
        blobs: the blobs.
        on_progress: called with the number of blobs that were read since the last call.

    Raises:
        ConfigurationError: there are no blobs, or something else is in the place of the catalog.
        UnavailableError: the blobs or the disk fail, or a folder of blobs cannot be listed; then
            nothing is changed. Or another rebuild is running.
    """
    if file.exists() and not file.is_file():
        raise ConfigurationError(f"{file} is not a file: move it away, and run this again")
    owner = blobs.owner()
    if owner is None and next(blobs.scan(), None) is None:
        raise ConfigurationError("there are no blobs to make a catalog from")
    # A folder beside the catalog: the new catalog is moved from there.
    with (
        locked_folder(file.parent, "rebuild"),
        _new_folder(file.parent) as folder,
        without_writers(file),
    ):
        draft = Path(folder, file.name)
        source = _source(file, owner, Path(folder))
        with closing(_open(sqlite_url(draft))) as new:
            rows = None if source is None else _open(sqlite_url(source.copy))
            damaged = _add_images(new, blobs, rows, on_progress)
            if rows is not None and source is not None and source.path == file:
                damaged += _add_lost_images(new, rows)
            _add_captures(new, file, owner, source, rows)
            _add_more_rows(new, file, owner, source)
            if rows is not None:
                rows.close()
            cache_id = owner or (rows or new).cache_id
            new.finish(cache_id)
            stats, without_url = new.stats(), new.count_without_url()
        kept = exchange(file, draft)
    if owner is None:
        blobs.set_owner(cache_id)
    path = None if source is None else source.path
    sound = stats["images"] - stats["damaged"]
    return Rebuilt(sound, stats["captures"], without_url, damaged, path, kept)


def _new_folder(parent: Path) -> TemporaryDirectory[str]:
    for left in parent.glob(f"{_DRAFTS}*"):  # A rebuild was killed.
        shutil.rmtree(left)
    return TemporaryDirectory(prefix=_DRAFTS, dir=parent)


_open = database_call(RestoringCatalog)


class _Source(NamedTuple):
    """A whole catalog, and a copy of it that may be upgraded."""

    path: Path
    copy: Path


def _source(file: Path, owner: str | None, folder: Path) -> _Source | None:
    """Find the first whole catalog of these blobs: the present one, or the newest snapshot."""
    for number, path in enumerate((file, *snapshots_of(file))):
        copy = folder / f"source-{number}.sqlite3"
        # A damaged catalog raises an error of SQLite, of the disk, or of its schema.
        with suppress(ImgCacheError, OSError):
            copy_file(path, copy)
            with closing(_open(sqlite_url(copy), create=False)) as catalog:
                if not catalog.damage() and owner in {None, catalog.cache_id}:
                    return _Source(path, copy)
    return None


def _add_images(
    new: RestoringCatalog,
    blobs: BlobStore,
    rows: RestoringCatalog | None,
    on_progress: Callable[[int], None],
) -> list[str]:
    damaged = []
    # What is not listed now would be an orphan later, and orphans are removed.
    sizes = ((each.content_hash, each.size) for each in blobs.scan(whole=True))
    with closing(Decoders()) as decoders:
        for batch in batches(sizes, _BATCH_SIZE):
            found = {name: size for name, size in batch if name is not None}
            known = {} if rows is None else rows.image_rows(list(found))
            sound = [row for name, row in known.items() if _is_sound(row, found[name])]
            new.add_images(sound)
            unknown = found.keys() - {row["content_hash"] for row in sound}
            for names in batches(sorted(unknown), _IMAGES_IN_MEMORY):
                bad = _describe(new, blobs, decoders, names)
                # They may be readable again, so they must not be orphans.
                new.add_images(
                    {**(known.get(name) or _unknown_row(name, found[name])), "damaged": True}
                    for name in bad
                )
                damaged += bad
            on_progress(len(batch))
    return damaged


def _is_sound(row: Row, size: int) -> bool:
    return not row["damaged"] and row["file_size_bytes"] == size


def _unknown_row(content_hash: str, size: int) -> Row:
    return Image(content_hash, UNKNOWN_TYPE, size, None, None, None).row()


def _add_lost_images(new: RestoringCatalog, rows: RestoringCatalog) -> list[str]:
    """Add the images that a whole catalog has, but the storage does not; return their hashes."""
    lost = []
    page = rows.rows_after("", _BATCH_SIZE)
    while page:
        names = [name for name, _, _ in page]
        known = new.known(names)
        lost += (absent := [name for name in names if name not in known])
        new.add_images({**row, "damaged": True} for row in rows.image_rows(absent).values())
        page = rows.rows_after(names[-1], _BATCH_SIZE)
    return lost


def _describe(
    new: RestoringCatalog, blobs: BlobStore, decoders: Decoders, names: list[str]
) -> list[str]:
    """Read and decode images, and add their rows; return those that are damaged."""
    found = {name: examine(blobs, name) for name in names}
    if any(state != "sound" for state, _ in found.values()):
        blobs.owner()  # It raises an error if the whole storage cannot be read.
    sound = {name: data for name, (state, data) in found.items() if state == "sound" and data}
    quick = zip(sound.values(), decoders.decode_quick(list(sound.values())), strict=True)
    infos = [decoders.decode_slow(each) if info == NOT_DECODED else info for each, info in quick]
    images = zip(sound.items(), infos, strict=True)
    new.add_images(image_of(name, each, info).row() for (name, each), info in images)
    return [name for name in names if name not in sound]


def _add_captures(
    new: RestoringCatalog,
    file: Path,
    owner: str | None,
    source: _Source | None,
    rows: RestoringCatalog | None,
) -> None:
    is_whole = source is not None and source.path == file
    if file.exists() and not is_whole:
        readable = ReadableCaptures(file)
        found = readable.cache_id()
        if found is None or found == owner:
            new.add_captures(readable)
        # What a catalog of these blobs does not have any more was deleted since the snapshot.
        if readable.are_all and found is not None and found == owner:
            return
    if rows is not None:
        new.add_captures(rows.capture_rows())


def _add_more_rows(
    new: RestoringCatalog, file: Path, owner: str | None, source: _Source | None
) -> None:
    """Add failures, blocks and audit list: those of the old catalog, else of the snapshot."""
    is_whole = source is not None and source.path == file
    found = ReadableCaptures(file).cache_id() if file.exists() else None
    for table in MORE_TABLES:
        if file.exists() and not is_whole and found in {None, owner}:
            readable = ReadableRows(file, table)
            new.add_rows(table, readable)
            if readable.are_all and found is not None:
                continue
        if source is not None:
            new.add_rows(table, ReadableRows(source.copy, table))
