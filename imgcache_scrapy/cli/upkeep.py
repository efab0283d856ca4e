"""`imgcache verify`, `gc` and `upgrade`: the maintenance of a cache."""

import json
from contextlib import closing, contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import track

from imgcache_scrapy.cli.location import CacheArgument, use_cache
from imgcache_scrapy.core.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from imgcache_scrapy.engine.blobs.store import Found
    from imgcache_scrapy.engine.upkeep import Upkeep, VerifyResult

_WRONG_KINDS = ("missing", "truncated", "altered", "unreadable", "orphaned")
_KINDS = (*_WRONG_KINDS, "healed", "removed")


def verify(
    cache: CacheArgument = None,
    repair: Annotated[bool, typer.Option("--repair", help="Remove the orphaned files.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Read every image and check its bytes; the exit code is 1 if something is wrong.

    A damaged image becomes a miss, and the next download of it repairs the cache. Orphaned files
    are files that a crash left and that no image owns.
    """
    found: dict[str, list[str]] = {kind: [] for kind in _KINDS}
    with _open_upkeep(cache) as upkeep:
        images = upkeep.cache.catalog.stats()["images"]
        verdicts: Iterable[VerifyResult] = upkeep.verify()
        screen = Console(stderr=True)
        if screen.is_terminal:
            verdicts = track(verdicts, "Reading images", images, console=screen)
        for verdict in verdicts:
            if verdict.state != "sound":
                found[verdict.state].append(verdict.content_hash)
        for orphan in _removable_orphans(upkeep) if repair else upkeep.orphans():
            found["orphaned"].append(orphan.key)
            if repair and upkeep.remove(orphan):
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
) -> None:
    """Remove files that crashes left and that no image owns; crawls may run at the same time."""
    sizes = []
    with _open_upkeep(cache) as upkeep:
        for orphan in _removable_orphans(upkeep, timedelta(minutes=older_than)):
            if upkeep.remove(orphan):
                sizes.append(orphan.size)
                typer.echo(orphan.key)
    typer.echo(f"{len(sizes)} files, {sum(sizes):,} bytes removed")


def upgrade(cache: CacheArgument = None) -> None:
    """Upgrade the catalog to the schema of this version; do nothing if it has this schema."""
    with _open_upkeep(cache):
        typer.echo("the catalog has the schema of this version")


@contextmanager
def _open_upkeep(cache: str | None) -> "Iterator[Upkeep]":
    location = use_cache(cache)
    folder = location.folder
    if folder is None:
        raise ConfigurationError(
            f"{location} is a service: run this command on the machine of the service, "
            "and give the folder of its cache"
        )
    # Imported here, because only these commands need an engine.
    from imgcache_scrapy.engine.cache import ImageCache  # noqa: PLC0415
    from imgcache_scrapy.engine.upkeep import Upkeep  # noqa: PLC0415

    with closing(ImageCache.in_folder(folder)) as image_cache:
        yield Upkeep(image_cache)


def _removable_orphans(upkeep: "Upkeep", *older_than: timedelta) -> "Iterator[Found]":
    """Find the orphans; refuse if the catalog is empty: it may be that of another cache."""
    orphans = upkeep.orphans(*older_than)
    if not upkeep.cache.catalog.stats()["images"] and next(orphans, None):
        raise ConfigurationError(
            "nothing is removed, because the catalog has no images: check that it is the right "
            "catalog; if it is, remove the blobs by hand"
        )
    return orphans
