"""`imgcache verify`, `gc` and `upgrade`: what a cache needs now and then."""

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

_WRONG = ("missing", "truncated", "altered", "orphaned")
_FOUND = (*_WRONG, "healed", "removed")


def verify(
    cache: CacheArgument = None,
    repair: Annotated[bool, typer.Option("--repair", help="Remove the orphans.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Write JSON.")] = False,
) -> None:
    """Read every image and check its bytes; exit code 1 when something is wrong.

    A damaged image is a miss from then on, and the next fetch heals it. Orphans are files that a
    crash left and that no image owns.
    """
    found: dict[str, list[str]] = {what: [] for what in _FOUND}
    with _opened(cache) as upkeep:
        images = upkeep.cache.catalog.stats()["images"]
        verdicts: Iterable[VerifyResult] = upkeep.verify()
        screen = Console(stderr=True)
        if screen.is_terminal:
            verdicts = track(verdicts, "Reading images", images, console=screen)
        for verdict in verdicts:
            if verdict.state != "sound":
                found[verdict.state].append(verdict.content_hash)
        for orphan in _removable(upkeep) if repair else upkeep.orphans():
            found["orphaned"].append(orphan.key)
            if repair and upkeep.remove(orphan):
                found["removed"].append(orphan.key)
    if as_json:
        typer.echo(json.dumps({"images": images, **found}))
    else:
        for what, names in found.items():
            for name in names:
                typer.echo(f"{what} {name}")
        counts = (f"{len(names)} {what}" for what, names in found.items() if names)
        typer.echo(", ".join([f"{images} images", *counts]))
    raise typer.Exit(any(found[what] for what in _WRONG))


def gc(
    cache: CacheArgument = None,
    older_than: Annotated[
        int, typer.Option(help="Minutes; younger files are left alone.", min=0)
    ] = 60,
) -> None:
    """Remove what crashes left and no image owns, while crawls go on."""
    sizes = []
    with _opened(cache) as upkeep:
        for orphan in _removable(upkeep, timedelta(minutes=older_than)):
            if upkeep.remove(orphan):
                sizes.append(orphan.size)
                typer.echo(orphan.key)
    typer.echo(f"{len(sizes)} files, {sum(sizes):,} bytes removed")


def upgrade(cache: CacheArgument = None) -> None:
    """Upgrade the catalog of an older version; harmless when repeated."""
    with _opened(cache):
        typer.echo("the catalog has the schema of this version")


@contextmanager
def _opened(cache: str | None) -> "Iterator[Upkeep]":
    location = use_cache(cache)
    folder = location.folder
    if folder is None:
        raise ConfigurationError(
            f"{location} is a service: run this where its catalog and its blobs are, "
            "with the name of its folder"
        )
    # Imported here, since only these commands need an engine.
    from imgcache_scrapy.engine.cache import ImageCache  # noqa: PLC0415
    from imgcache_scrapy.engine.upkeep import Upkeep  # noqa: PLC0415

    with closing(ImageCache.in_folder(folder)) as image_cache:
        yield Upkeep(image_cache)


def _removable(upkeep: "Upkeep", *older_than: timedelta) -> "Iterator[Found]":
    """Find the orphans; refuse where no image is known: the catalog may be another cache's."""
    orphans = upkeep.orphans(*older_than)
    if not upkeep.cache.catalog.stats()["images"] and next(orphans, None):
        raise ConfigurationError(
            "nothing is removed, because the catalog knows no image at all: is it the right one? "
            "If it is, remove the blobs by hand"
        )
    return orphans
