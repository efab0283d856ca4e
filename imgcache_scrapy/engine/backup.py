"""Back up a cache while crawls go on: first its catalog, then the blobs that the catalog names."""

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from imgcache_scrapy.core.errors import ConfigurationError
from imgcache_scrapy.core.files import sync_folder
from imgcache_scrapy.engine.blobs.files import FileBlobs
from imgcache_scrapy.engine.blobs.states import examine
from imgcache_scrapy.engine.cache import ImageCache
from imgcache_scrapy.engine.catalog.database import database_call, sqlite_url
from imgcache_scrapy.engine.catalog.restoring import RestoringCatalog
from imgcache_scrapy.engine.folder_lock import locked_folder
from imgcache_scrapy.engine.location import BLOBS_NAME, CATALOG_NAME

_PAGE_SIZE = 500


class BackedUp(NamedTuple):
    """The result of a backup.

    Attributes:
        images: number of images in the copy.
        missing: the hashes of images whose bytes are lost or cannot be read; the copy has them as
            damaged.
    """

    images: int
    missing: list[str]


def back_up(
    cache: ImageCache,
    folder: Path,
    *,
    on_total: Callable[[int], None] = lambda _: None,
    on_progress: Callable[[int], None] = lambda _: None,
) -> BackedUp:
    """Copy a cache into a folder, which can then be opened as a cache.

    The copy has the cache as it is when the backup begins. Images that are deleted meanwhile may
    be left out. After an interruption, a backup into the same folder goes on.

    Args:
        cache: the cache; others may use it.
        folder: it must be empty or must not exist, or have an interrupted backup of this cache.
        on_total: called with the number of images to copy.
        on_progress: called with the number of images that were copied since the last call.

    Raises:
        ConfigurationError: the folder is not empty, or the catalog is not in SQLite.
        UnavailableError: the cache or the folder fails, or another backup uses the folder; then
            the folder is not a cache.
    """
    if cache.catalog.file is None:
        raise ConfigurationError(
            "the catalog is not in SQLite: back up its database with the database's own program,"
            " and then copy the blobs"
        )
    folder.mkdir(parents=True, exist_ok=True)
    with locked_folder(folder, "backup"):
        return _back_up(cache, folder, on_total, on_progress)


def _back_up(
    cache: ImageCache,
    folder: Path,
    on_total: Callable[[int], None],
    on_progress: Callable[[int], None],
) -> BackedUp:
    blobs = FileBlobs(folder / BLOBS_NAME)
    draft = _prepare(folder, blobs, cache.catalog.cache_id)
    cache.catalog.copy_to(draft)
    with closing(database_call(RestoringCatalog)(sqlite_url(draft))) as catalog:
        blobs.set_owner(catalog.cache_id)
        on_total(catalog.stats()["images"])
        missing = list(_copy_blobs(cache, catalog, blobs, on_progress))
        blobs.sync()
        known = cache.catalog.known(missing)
        catalog.remove_images(name for name in missing if name not in known)
        for name in known:
            with catalog.exclusive([name]) as transaction:
                transaction.mark_damaged(name)
        images = catalog.stats()["images"]
    draft.rename(folder / CATALOG_NAME)
    sync_folder(folder)
    sync_folder(folder.parent)
    return BackedUp(images, sorted(known))


def _prepare(folder: Path, blobs: FileBlobs, cache_id: str) -> Path:
    """Return the file for the catalog, after the check that nothing else is in the folder."""
    # Without its final name, so that an interrupted backup is not taken for a cache.
    draft = folder / f"#{CATALOG_NAME}"
    drafts = set(folder.glob(f"{draft.name}*"))
    others = set(folder.iterdir()) - drafts - {folder / BLOBS_NAME}
    is_ours = bool(drafts) and not others and blobs.owner() in {None, cache_id}
    if any(folder.iterdir()) and not is_ours:
        raise ConfigurationError(f"{folder} is not empty: a backup needs an empty folder")
    for path in drafts:
        path.unlink()
    return draft


def _copy_blobs(
    cache: ImageCache,
    catalog: RestoringCatalog,
    blobs: FileBlobs,
    on_progress: Callable[[int], None],
) -> Iterator[str]:
    """Copy the blobs that the catalog names; yield the hashes of those it cannot read."""
    source = cache.blobs
    page = catalog.rows_after("", _PAGE_SIZE)
    while page:
        sizes = {name: size for name, size, _ in page}
        there = blobs.sizes(sizes)
        for name, size in sizes.items():
            if there[name] == size:  # Of a backup that was interrupted.
                continue
            if isinstance(source, FileBlobs) and blobs.link(name, source):
                continue
            state, data = examine(source, name)
            if state != "sound":
                cache.check_blobs()
            if data is None:
                yield name
            else:
                blobs.put(name, data)
        on_progress(len(page))
        page = catalog.rows_after(page[-1][0], _PAGE_SIZE)
