"""`imgcache backup` and `imgcache rebuild`: keep a copy of a cache, and mend a broken catalog."""

import json
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imgcache_scrapy.cli.location import CacheArgument, announce, find_cache
from imgcache_scrapy.cli.output import JsonOption
from imgcache_scrapy.cli.progress import explaining_interrupts, progress
from imgcache_scrapy.cli.upkeep import open_cache, own_folder
from imgcache_scrapy.core.errors import ConfigurationError

if TYPE_CHECKING:
    from imgcache_scrapy.engine.rebuild import Rebuilt


def backup(
    dest: Annotated[
        Path, typer.Argument(metavar="DEST", help="The folder of the copy; it must be empty.")
    ],
    cache: CacheArgument = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Copy a cache into an empty folder; crawls may run at the same time.

    The copy is a cache by itself. On the same disk its images take no space, because both folders
    have the same files. After an interruption, run the same command again.
    """
    # Imported here, because only this command needs it.
    from imgcache_scrapy.engine.backup import back_up  # noqa: PLC0415

    with (
        open_cache(cache) as image_cache,
        progress("Copying images") as shown,
        explaining_interrupts(shown),
    ):
        done = back_up(image_cache, dest, on_total=shown.set_total, on_progress=shown.advance)
    if as_json:
        typer.echo(json.dumps({"folder": str(dest), **done._asdict()}))
        return
    for name in done.missing:
        typer.echo(f"missing {name}")
    typer.echo(f"{done.images} images are in {dest}")


def rebuild(cache: CacheArgument = None, *, as_json: JsonOption = False) -> None:
    """Make a new catalog from the blobs; first stop everything that uses the cache.

    URLs come from the old catalog, as far as it can be read, and from its newest snapshot.
    """
    # Imported here, because only this command needs them.
    from imgcache_scrapy.engine.blobs.opening import open_blobs  # noqa: PLC0415
    from imgcache_scrapy.engine.catalog.sqlite import path_of  # noqa: PLC0415
    from imgcache_scrapy.engine.location import addresses_in  # noqa: PLC0415
    from imgcache_scrapy.engine.rebuild import rebuild as run  # noqa: PLC0415

    location = find_cache(cache)
    announce("Cache", location)
    database_url, blobs_url = addresses_in(own_folder(location))
    file = path_of(database_url)
    if file is None:
        raise ConfigurationError("only a catalog in SQLite can be rebuilt: restore a backup of it")
    if not file.parent.is_dir():
        raise ConfigurationError(f"there is no cache in {file.parent}")
    with (
        closing(open_blobs(blobs_url)) as blobs,
        progress("Reading images") as shown,
        explaining_interrupts(shown),
    ):
        done = run(file, blobs, on_progress=shown.advance)
    if as_json:
        typer.echo(json.dumps(done._asdict(), default=str))
    else:
        _tell(done, file)


def _tell(done: "Rebuilt", file: Path) -> None:
    typer.echo(f"the new catalog has {done.images} images and {done.captures} captures")
    if done.source is not None and done.source != file:
        typer.echo(f"its URLs come from {done.source}")
    if done.without_url:
        typer.echo(
            f"{done.without_url} images have no URL: only their hash finds them, and crawls fetch"
            " them again"
        )
    for name in done.damaged:
        typer.echo(f"damaged {name}")
    if done.kept is not None:
        typer.echo(f"the old catalog is {done.kept}")
