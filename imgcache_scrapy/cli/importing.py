"""`imgcache import`: pictures of a folder, of a crawl without a cache, or of an HttpCache."""

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from imgcache_scrapy.cli.location import CacheOption, announce, find_cache
from imgcache_scrapy.cli.output import JsonOption, end_with_counts
from imgcache_scrapy.cli.progress import explaining_interrupts, progress, report
from imgcache_scrapy.cli.transfer.importing import COUNTS, Import, import_images
from imgcache_scrapy.cli.transfer.sources import Columns
from imgcache_scrapy.cli.transfer.tasks import Defaults
from imgcache_scrapy.core.errors import ConfigurationError


def import_(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="The folder with the files.")],
    *,
    items: Annotated[
        Path | None,
        typer.Option(
            metavar="FEED", help="FOLDER is an IMAGES_STORE or FILES_STORE: the feed of its items."
        ),
    ] = None,
    manifest: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The URLs of the files: .json, .jsonl or .csv."),
    ] = None,
    file_column: Annotated[
        str | None, typer.Option(help="Of the manifest; default file_name, path, filename or file.")
    ] = None,
    url_column: Annotated[str, typer.Option(help="Of the manifest.")] = "url",
    time_column: Annotated[str, typer.Option(help="Of the manifest.")] = "lookup_time",
    field: Annotated[
        str | None, typer.Option(help="The field of the items with the results; default every one.")
    ] = None,
    converted: Annotated[
        bool | None,
        typer.Option(
            "--converted/--original",
            help="Whether Scrapy's ImagesPipeline made the files; default as the feed looks.",
        ),
    ] = None,
    bucket: Annotated[str | None, typer.Option(help="The bucket.")] = None,
    client_name: Annotated[
        str | None,
        typer.Option(
            "--client", metavar="NAME", help="Who fetched them; default as the list says, or import"
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count.")] = False,
    cache: CacheOption = None,
    as_json: JsonOption = False,
) -> None:
    """Import pictures, which have the time of their file unless a list says it.

    Without a feed or a manifest, the URL of a picture is that of its file, and the responses of
    Scrapy's HttpCache have their own. What the cache has is not imported again: after an
    interruption, run the same command again. Bad files are reported and skipped, with the exit
    code 1.
    """
    if items is not None and manifest is not None:
        raise ConfigurationError("give --items or --manifest, not both")
    columns = Columns(file_column, url_column, time_column)
    if manifest is None and columns != Columns():
        raise ConfigurationError("an option that names a column needs --manifest FILE")
    if items is None and field is not None:
        raise ConfigurationError("--field needs --items FEED")
    location = find_cache(cache)
    announce("Cache", location)
    with progress("Counting" if dry_run else "Importing") as shown:
        what = Import(
            folder,
            items,
            manifest,
            columns,
            field,
            Defaults(
                location.bucket if bucket is None else bucket,
                client_name,
                converted,
                location.key_of,
            ),
            location.folder,
            dry_run,
            location.fetch_rules.max_image_bytes,
            on_problem=lambda problem: report(problem, shown, as_json=as_json),
            on_total=shown.set_total,
            on_progress=shown.advance,
        )
        with explaining_interrupts(shown):
            # Each picture has its bucket.
            options = {**location.client_options, "bucket": ""}
            counts = import_images(location.address, what, **options)
    end_with_counts(counts, COUNTS, _summary(counts, dry_run=dry_run), as_json=as_json)


def _summary(counts: Counter[str], *, dry_run: bool) -> str:
    would_be = "would be " if dry_run else ""
    parts = [
        f"{counts['files']:,} files",
        f"{counts['stored']:,} {would_be}stored",
        f"{counts['duplicate']:,} {would_be}recorded as duplicates",
        f"{counts['known']:,} known",
    ]
    if counts["other"]:
        parts.append(f"{counts['other']:,} responses without a picture")
    if counts["bad"]:
        parts.append(f"{counts['bad']:,} skipped")
    return ", ".join(parts)
