"""`imgcache rm` and `imgcache audit`: delete by filters, and list who has deleted what."""

import json
import sys
from typing import Annotated, Any

import typer

from imgcache_scrapy.cli.location import (
    CacheArgument,
    Location,
    SpoolOption,
    open_client,
    use_cache,
    use_spool,
)
from imgcache_scrapy.cli.options import filtered
from imgcache_scrapy.cli.output import JsonOption, print_rows
from imgcache_scrapy.client.address import cache_name
from imgcache_scrapy.client.spool_removal import remove_spooled
from imgcache_scrapy.core.errors import ConfigurationError
from imgcache_scrapy.core.filters import Filters
from imgcache_scrapy.core.image_url import ImageUrl
from imgcache_scrapy.core.selection import Selection


@filtered
def rm(
    cache: CacheArgument = None,
    *,
    filters: Filters,
    url: Annotated[str | None, typer.Option(help="The URL.")] = None,
    before: Annotated[
        str | None, typer.Option(metavar="TIME", help="Fetched before: the same as --until.")
    ] = None,
    all_captures: Annotated[
        bool, typer.Option("--all", help="Delete everything; then there is no filter.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Count only, and delete nothing.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    block: Annotated[
        bool,
        typer.Option(
            "--block",
            help="Block the host or the URL, if there is no other filter than it and a bucket; "
            "else the images that are deleted.",
        ),
    ] = False,
    folder: SpoolOption = None,
    as_json: JsonOption = False,
) -> None:
    """Delete what was fetched, by filters; it asks first.

    The bytes of an image go with its last capture. Images in the spool that meet the filters are
    deleted, too.
    """
    is_filtered = any(each is not None for each in (url, before, *filters.values()))
    if all_captures and is_filtered:
        raise ConfigurationError("give filters, or --all to delete everything, not both")
    location = use_cache(cache, creates=block)
    wanted: dict[str, Any] = {"url": url, "before": before, "all_captures": all_captures, **filters}
    selection = _selection(location, wanted)
    spool, name = use_spool(folder), cache_name(location.address)
    with open_client(location, timeout=None) as client:
        counts = client.delete_captures(dry_run=True, **wanted)
        spooled = remove_spooled(spool, selection, name, dry_run=True)
        if not dry_run:
            expected = None
            if not yes:
                _ask(f"Delete {_sentence(counts, spooled)}? [y/N] ")
                expected = counts["captures"]
            # First: what waits there must not be stored afterwards.
            spooled = remove_spooled(spool, selection, name)
            counts = client.delete_captures(block=block, expected=expected, **wanted)
    if as_json:
        typer.echo(json.dumps({**counts, "spooled": spooled}))
    else:
        typer.echo(f"{'would delete' if dry_run else 'deleted'} {_sentence(counts, spooled)}")


def audit(cache: CacheArgument = None, *, as_json: JsonOption = False) -> None:
    """List what was taken down, deleted, blocked and unblocked by hand, newest first."""
    columns = ("done_at", "actor", "act", "filter", "captures", "images", "bytes")
    with open_client(use_cache(cache)) as client:
        print_rows(client.audit(), columns, as_json=as_json)


def _selection(location: Location, wanted: dict[str, Any]) -> Selection:
    filters = dict(wanted)
    url, before, is_all = (filters.pop(name) for name in ("url", "before", "all_captures"))
    return Selection.of(
        filters,
        None if url is None else ImageUrl.of(url, None, location.key_of),
        before=before,
        all_captures=is_all,
        bucket=location.bucket or None,
    )


def _ask(question: str) -> None:
    """Ask on standard error, and exit unless the answer is yes."""
    typer.echo(question, err=True, nl=False)
    if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
        typer.echo("Nothing is deleted.", err=True)
        raise typer.Exit(1)


def _sentence(counts: dict[str, int], spooled: int) -> str:
    captures, images, size = (counts[name] for name in ("captures", "images", "bytes"))
    text = f"{captures:,} captures, and with them {images:,} images ({size:,} bytes)"
    return f"{text}, and {spooled:,} images in the spool" if spooled else text
