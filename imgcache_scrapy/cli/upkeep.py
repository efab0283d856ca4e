"""`imgcache verify`, `gc` and `upgrade`: the maintenance of a cache."""

import json
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imgcache_scrapy.cli.location import CacheArgument, Location, use_cache
from imgcache_scrapy.cli.output import JsonOption
from imgcache_scrapy.cli.progress import explaining_interrupts, progress
from imgcache_scrapy.core.errors import ConfigurationError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from imgcache_scrapy.engine.blobs.store import Found
    from imgcache_scrapy.engine.cache import ImageCache
    from imgcache_scrapy.engine.upkeep import Upkeep

_WRONG_KINDS = ("missing", "truncated", "altered", "unreadable", "orphaned")
_KINDS = (*_WRONG_KINDS, "healed", "decoded", "removed")

DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Remove no file; only list those that would be removed.")
]


def verify(
    cache: CacheArgument = None,
    repair: Annotated[bool, typer.Option("--repair", help="Remove the orphaned files.")] = False,
    dry_run: DryRunOption = False,
    *,
    as_json: JsonOption = False,
) -> None:
    """Check the catalog, then every image's bytes; the exit code is 1 if something is wrong.

    Images that are not decoded yet are decoded, so that they get their size and hash.
    A damaged image becomes a miss, and the next download of it repairs the cache. Orphaned files
    are files that a crash left and that no image owns. If the catalog itself is damaged, nothing
    else is checked.
    """
    found: dict[str, list[str]] = {kind: [] for kind in _KINDS}
    with _telling_damage(as_json=as_json), _open_upkeep(cache) as upkeep:
        _report_damage(upkeep.cache.catalog.damage(), as_json=as_json)
        images = upkeep.cache.catalog.stats()["images"]
        with progress("Reading images") as shown:
            shown.set_total(images)
            for verdict in upkeep.verify():
                shown.advance(1)
                if verdict.state != "sound":
                    found[verdict.state].append(verdict.content_hash)
        found["decoded"] = sorted(set(upkeep.decode()))
        for orphan in _removable_orphans(upkeep) if repair else upkeep.orphans():
            found["orphaned"].append(orphan.key)
            if repair and not dry_run and upkeep.remove(orphan):
                found["removed"].append(orphan.key)
    if as_json:
        typer.echo(json.dumps({"images": images, **found}))
    else:
        for kind, names in found.items():
            for name in names:
                typer.echo(f"{kind} {name}")
        counts = (f"{len(names)} {kind}" for kind, names in found.items() if names)
        typer.echo(", ".join([f"{images} images", *counts]))
    raise typer.Exit(any(found[kind] for kind in _WRONG_KINDS))


def gc(
    cache: CacheArgument = None,
    older_than: Annotated[
        int, typer.Option(help="In minutes; younger files are not removed.", min=0)
    ] = 60,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Remove files that crashes left and that no image owns; crawls may run at the same time."""
    sizes = []
    with _open_upkeep(cache) as upkeep:
        for orphan in _removable_orphans(upkeep, timedelta(minutes=older_than)):
            if dry_run or upkeep.remove(orphan):
                sizes.append(orphan.size)
                found = {"file": orphan.key, "bytes": orphan.size, "removed": not dry_run}
                typer.echo(json.dumps(found) if as_json else orphan.key)
    if not as_json:
        would_be = "would be " if dry_run else ""
        typer.echo(f"{len(sizes)} files, {sum(sizes):,} bytes {would_be}removed")


def upgrade(cache: CacheArgument = None, *, as_json: JsonOption = False) -> None:
    """Upgrade the catalog to this version; crawls and services may go on at the same time.

    Captures of versions without cache keys get their key and host, in batches, and an index that
    makes URLs with many captures fast. If that is interrupted, run it again. A catalog that is up
    to date stays as it is.
    """
    with _open_upkeep(cache) as upkeep:
        missing = upkeep.cache.catalog.count_unfilled()
        if missing:
            typer.echo(f"{missing:,} older captures get their keys and hosts", err=True)
            _fill_keys(upkeep, missing)
        upkeep.cache.catalog.index_histories()
    if as_json:
        typer.echo(json.dumps({"filled": missing}))
    else:
        typer.echo("the catalog has the schema of this version")


def _fill_keys(upkeep: "Upkeep", missing: int) -> None:
    with progress("Filling keys") as shown, explaining_interrupts(shown):
        shown.set_total(missing)
        for count in upkeep.fill_keys():
            shown.advance(count)


def _report_damage(damage: list[str], *, as_json: bool) -> None:
    """Print what is wrong with the catalog, and exit; do nothing if it is whole."""
    if not damage:
        return
    if as_json:
        typer.echo(json.dumps({"catalog": damage}))
    else:
        more = f", and {len(damage) - 1} more" if len(damage) > 1 else ""
        typer.echo(
            f"the catalog is damaged ({damage[0]}{more}): run `imgcache rebuild` to make a new one"
        )
    raise typer.Exit(1)


@contextmanager
def _telling_damage(*, as_json: bool) -> "Iterator[None]":
    """Print the error as JSON, too, if a catalog is so damaged that it cannot be used."""
    from imgcache_scrapy.engine.catalog.sqlite import is_damage  # noqa: PLC0415

    try:
        yield
    except UnavailableError as error:
        if as_json and error.__cause__ is not None and is_damage(error.__cause__):
            typer.echo(json.dumps({"catalog": [str(error)]}))
        raise


def own_folder(location: Location) -> Path:
    """Return the folder of a cache.

    Raises:
        ConfigurationError: the location is that of a service.
    """
    folder = location.folder
    if folder is None:
        raise ConfigurationError(
            f"{location} is a service: run this command on the machine of the service, "
            "and give the folder of its cache"
        )
    return folder


@contextmanager
def open_cache(cache: str | None) -> "Iterator[ImageCache]":
    """Open the cache in a folder, which must exist, for a block."""
    # Imported here, because only these commands need an engine.
    from imgcache_scrapy.engine.cache import ImageCache  # noqa: PLC0415

    folder = own_folder(use_cache(cache))
    with closing(ImageCache.in_folder(folder, create=False)) as image_cache:
        yield image_cache


@contextmanager
def _open_upkeep(cache: str | None) -> "Iterator[Upkeep]":
    from imgcache_scrapy.engine.upkeep import Upkeep  # noqa: PLC0415

    with open_cache(cache) as image_cache:
        yield Upkeep(image_cache)


def _removable_orphans(upkeep: "Upkeep", *older_than: timedelta) -> "Iterator[Found]":
    """Find the orphans; refuse if the catalog is damaged, empty or that of another cache."""
    upkeep.check_whole()
    orphans = upkeep.orphans(*older_than)
    if not upkeep.cache.catalog.stats()["images"] and next(orphans, None):
        raise ConfigurationError(
            "nothing is removed, because the catalog has no images: check that it is the right "
            "catalog; if it is, remove the blobs by hand"
        )
    return orphans
