"""`imgcache prune`: keep a cache small."""

import json
from collections.abc import Callable
from typing import Annotated, TypeVar

import typer

from imgcache_scrapy.cli.location import CacheArgument
from imgcache_scrapy.cli.output import JsonOption
from imgcache_scrapy.cli.progress import explaining_interrupts, progress
from imgcache_scrapy.cli.upkeep import open_cache
from imgcache_scrapy.core.errors import InvalidRequestError
from imgcache_scrapy.core.units import checked_days, checked_size

T = TypeVar("T")


def prune(
    cache: CacheArgument = None,
    *,
    max_bytes: Annotated[
        str | None, typer.Option(metavar="SIZE", help="Keep at most this size, such as 10GB.")
    ] = None,
    unused_for: Annotated[
        str | None, typer.Option(metavar="AGE", help="Remove what was not used for 90d, 4w, 1y.")
    ] = None,
    older_than: Annotated[
        str | None,
        typer.Option(metavar="AGE", help="Remove what was not fetched for 90d, 4w, 1y."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Remove nothing; only count what would be removed.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Remove images, the least recently used first; crawls may run at the same time.

    An image goes if one of the options says so. Images that were used today stay.
    """
    rules = {
        "max_bytes": _checked(max_bytes, checked_size),
        "unused_for": _checked(unused_for, checked_days),
        "older_than": _checked(older_than, checked_days),
    }
    if not any(rule is not None for rule in rules.values()):
        raise InvalidRequestError("say what may go: --max-bytes, --unused-for or --older-than")
    # Imported here, because only this command needs it.
    from imgcache_scrapy.engine.pruning import prune as prune_cache  # noqa: PLC0415

    images = size = 0
    doing = "Counting images" if dry_run else "Removing images"
    with open_cache(cache) as image_cache, progress(doing) as shown, explaining_interrupts(shown):
        for pruned in prune_cache(image_cache, **rules, dry_run=dry_run):  # type: ignore[arg-type]
            images += pruned.images
            size += pruned.size
            shown.advance(pruned.images)
        left = image_cache.catalog.total_bytes() - (size if dry_run else 0)
    if as_json:
        typer.echo(json.dumps({"images": images, "bytes": size}))
    else:
        would_be = "would be " if dry_run else ""
        typer.echo(f"{images:,} images, {size:,} bytes {would_be}removed")
    cap = rules["max_bytes"]
    if isinstance(cap, int) and left > cap:
        typer.echo(
            f"imgcache: the images that were used today stay, so the cache has {left:,} bytes,"
            f" more than {cap:,}",
            err=True,
        )


def _checked(value: str | None, check: Callable[[str], T]) -> T | None:
    return None if value is None else check(value)
