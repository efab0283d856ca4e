"""`imgcache copy`: a cache into another one, for example from a folder to a server."""

from collections import Counter
from typing import Annotated

import typer

from imgcache_scrapy.cli.location import announce
from imgcache_scrapy.cli.output import JsonOption, end_with_counts
from imgcache_scrapy.cli.progress import explaining_interrupts, progress, report
from imgcache_scrapy.cli.transfer.sources import Problem
from imgcache_scrapy.core.errors import ConfigurationError


def _url_option(what: str, of: str) -> object:
    return typer.Option(metavar="URL", help=f"The URL of the {what} of {of}, as for `serve`.")


def copy(
    src: Annotated[
        str | None,
        typer.Argument(metavar="SRC", help="The folder of a cache, or the address of a service."),
    ] = None,
    dst: Annotated[
        str | None,
        typer.Argument(metavar="DST", help="The folder of the copy; it is created."),
    ] = None,
    *,
    src_database: Annotated[str | None, _url_option("database", "SRC")] = None,
    src_blobs: Annotated[str | None, _url_option("blobs", "SRC")] = None,
    dst_database: Annotated[str | None, _url_option("database", "DST")] = None,
    dst_blobs: Annotated[str | None, _url_option("blobs", "DST")] = None,
    src_token: Annotated[
        str | None,
        typer.Option(
            metavar="TOKEN",
            envvar="IMGCACHE_TOKEN",
            help="The bearer token of SRC, if it is a service.",
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Copy a cache into another one, with all that it knows, while crawls use both.

    A cache with a database and blobs of its own needs no folder. What is there is not copied again:
    after an interruption, run the same command again. Damaged images are reported, with the exit
    code 1.
    """
    # Imported here, because only this command needs an engine and a client.
    from imgcache_scrapy.cli.transfer.copying import (  # noqa: PLC0415
        COUNTS,
        Callbacks,
        Place,
        copy_images,
    )

    if src_database and src_blobs and dst is None:
        src, dst = None, src
    places = {"SRC": (src, src_database, src_blobs), "DST": (dst, dst_database, dst_blobs)}
    for name, (folder, *urls) in places.items():
        if folder is None and not all(urls):
            raise ConfigurationError(f"name {name}: its folder, or its database and its blobs")
    source, place = (Place(*parts) for parts in places.values())
    announce("Source", source)
    announce("Copy", place)
    with progress("Counting" if dry_run else "Copying") as shown, explaining_interrupts(shown):
        callbacks = Callbacks(
            lambda name, reason: report(Problem(name, reason), shown, as_json=as_json),
            shown.set_total,
            shown.advance,
        )
        counts = copy_images(source, place, token=src_token, dry_run=dry_run, callbacks=callbacks)
    end_with_counts(counts, COUNTS, _summary(counts, dry_run=dry_run), as_json=as_json)


def _summary(counts: Counter[str], *, dry_run: bool) -> str:
    would_be = "would be " if dry_run else ""
    parts = [
        f"{counts['captures']:,} captures",
        f"{counts['copied']:,} {would_be}copied",
        f"{counts['renewed']:,} {would_be}renewed",
        f"{counts['known']:,} there already",
    ]
    if counts["blocked"]:
        parts.append(f"{counts['blocked']:,} blocked")
    text = f"{', '.join(parts)}; {counts['images']:,} images, {counts['bytes']:,} bytes"
    return f"{text}; {counts['bad']:,} damaged" if counts["bad"] else text
