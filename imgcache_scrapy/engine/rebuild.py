"""Rebuild a catalog in SQLite from its blobs; the URLs come from what is left of the old one."""

import os
import shutil
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from imgcache_scrapy.core.batches import batches
from imgcache_scrapy.core.errors import ConfigurationError, ImgCacheError
from imgcache_scrapy.core.files import sync_file, sync_folder
from imgcache_scrapy.engine.blobs.states import examine
from imgcache_scrapy.engine.blobs.store import BlobStore
from imgcache_scrapy.engine.catalog.database import database_call, sqlite_url
from imgcache_scrapy.engine.catalog.restoring import ReadableCaptures, RestoringCatalog
from imgcache_scrapy.engine.decoding.decoder import Decoders
from imgcache_scrapy.engine.decoding.messages import NOT_DECODED
from imgcache_scrapy.engine.description import image_of
from imgcache_scrapy.engine.snapshots import snapshots_of

# Each may have 100 MiB.
_IMAGES_IN_MEMORY = 4
_BATCH_SIZE = 500
_DRAFTS = "#rebuild-"


class Rebuilt(NamedTuple):
    """The result of a rebuild.

    Attributes:
        images: number of images in the new catalog.
        captures: number of captures in it.
        without_url: number of images without a capture; only their hash finds them.
        damaged: the keys of blobs with wrong bytes, or that cannot be read; they are left out.
        source: the catalog or the snapshot whose rows were copied; None if there is none.
        kept: the file in which the old catalog is kept; None if there was none.
    """

    images: int
    captures: int
    without_url: int
    damaged: list[str]
    source: Path | None
    kept: Path | None


def rebuild(file: Path, blobs: BlobStore) -> Rebuilt:
    """Make a new catalog from blobs, and put it in the place of the old one, which is kept.

    Nothing else may use the cache meanwhile. The captures come from the old catalog if it is
    whole; else those that can be read in it, and the others from the newest snapshot.

    Args:
        file: the file of the catalog.
        blobs: the blobs.

    Raises:
        ConfigurationError: there are no blobs.
        UnavailableError: the blobs or the disk fail; then nothing is changed.
    """
    owner = blobs.owner()
    if owner is None and next(blobs.scan(), None) is None:
        raise ConfigurationError("there are no blobs to make a catalog from")
    for left in file.parent.glob(f"{_DRAFTS}*"):  # A rebuild was killed.
        shutil.rmtree(left)
    # A folder beside the catalog: the new catalog is moved from there.
    with TemporaryDirectory(prefix=_DRAFTS, dir=file.parent) as folder:
        draft = Path(folder, file.name)
        source = _source(file, owner, Path(folder))
        with closing(_open(sqlite_url(draft))) as new:
            rows = None if source is None else _open(sqlite_url(source.copy))
            damaged = _add_images(new, blobs, rows)
            _add_captures(new, file, owner, source, rows)
            if rows is not None:
                rows.close()
            cache_id = owner or (rows or new).cache_id
            new.finish(cache_id)
            stats, without_url = new.stats(), new.count_without_url()
        kept = _exchange(file, draft)
    if owner is None:
        blobs.set_owner(cache_id)
    path = None if source is None else source.path
    return Rebuilt(stats["images"], stats["captures"], without_url, damaged, path, kept)


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
            _copy(path, copy)
            with closing(_open(sqlite_url(copy), create=False)) as catalog:
                if not catalog.damage() and owner in {None, catalog.cache_id}:
                    return _Source(path, copy)
    return None


def _copy(path: Path, copy: Path) -> None:
    for suffix in ("", "-wal"):
        with suppress(FileNotFoundError):
            shutil.copyfile(f"{path}{suffix}", f"{copy}{suffix}")


def _add_images(
    new: RestoringCatalog, blobs: BlobStore, rows: RestoringCatalog | None
) -> list[str]:
    damaged = []
    sizes = ((each.content_hash, each.size) for each in blobs.scan())
    with closing(Decoders()) as decoders:
        for batch in batches(sizes, _BATCH_SIZE):
            found = {name: size for name, size in batch if name is not None}
            known = {} if rows is None else rows.image_rows(list(found))
            sound = [row for name, row in known.items() if row["file_size_bytes"] == found[name]]
            new.add_images(sound)
            unknown = found.keys() - {row["content_hash"] for row in sound}
            for names in batches(sorted(unknown), _IMAGES_IN_MEMORY):
                damaged += _describe(new, blobs, decoders, names)
    return damaged


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


def _exchange(file: Path, draft: Path) -> Path | None:
    """Put the new catalog in the place of the old one, and keep that with its log."""
    sync_file(draft)
    kept = file.with_name(f"{file.name}.old-{datetime.now(UTC):%Y%m%dT%H%M%SZ}")
    # The log belongs to the old file: beside the new one it would destroy it.
    for suffix in ("-wal", "-shm"):
        with suppress(FileNotFoundError):
            file.with_name(f"{file.name}{suffix}").rename(f"{kept}{suffix}")
    had_file = file.exists()
    if had_file:
        try:
            os.link(file, kept)
        except OSError:  # This file system has no links.
            file.rename(kept)
    draft.replace(file)
    sync_folder(file.parent)
    return kept if had_file else None
