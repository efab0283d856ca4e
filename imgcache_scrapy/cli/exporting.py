"""`imgcache export`: images as files, or as a data set."""

from pathlib import Path
from typing import Annotated

import typer

from imgcache_scrapy.cli.location import CacheOption, use_cache
from imgcache_scrapy.cli.options import filtered
from imgcache_scrapy.cli.output import JsonOption, end_with_counts
from imgcache_scrapy.cli.progress import explaining_interrupts, progress, report
from imgcache_scrapy.cli.transfer.exporting import COUNTS, FORMATS, Export, export_images
from imgcache_scrapy.cli.transfer.naming import DEFAULT_TEMPLATE, FIELDS
from imgcache_scrapy.cli.transfer.pictures import parsed_splits
from imgcache_scrapy.cli.transfer.shards import DEFAULT_BYTES
from imgcache_scrapy.core.errors import ConfigurationError
from imgcache_scrapy.core.filters import Filters

_FIELDS = ", ".join(f"{{{name}}}" for name in FIELDS)


@filtered
def export(
    dest: Annotated[Path, typer.Argument(metavar="DEST", help="The folder; it is created.")],
    cache: CacheOption = None,
    *,
    filters: Filters,
    format_name: Annotated[
        str, typer.Option("--format", metavar="|".join(FORMATS), help="The format.")
    ] = "files",
    name: Annotated[
        str | None,
        typer.Option(metavar="TEMPLATE", help=f"The names of files and imagefolder, of {_FIELDS}."),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(metavar="NAME=SHARE,…", help="Splits by hash, such as train=0.9,test=0.1."),
    ] = None,
    shard_bytes: Annotated[
        int, typer.Option(help="The size of a shard of webdataset and parquet.", min=1)
    ] = DEFAULT_BYTES,
    as_json: JsonOption = False,
) -> None:
    """Export images, each once, with their URLs and facts.

    Files that are there already are kept: after an interruption, run the same command again.
    Damaged images are reported and skipped; the exit code is 1.
    """
    if name is not None and format_name in ("webdataset", "parquet"):
        raise ConfigurationError("--name is an option of files and imagefolder")
    location = use_cache(cache)
    if filters.get("bucket") is None and location.bucket:
        filters["bucket"] = location.bucket
    # A data set is read without its folders.
    default = DEFAULT_TEMPLATE if format_name == "files" else "{hash}.{ext}"
    with progress("Exporting") as shown:
        what = Export(
            dest,
            format_name,
            filters,
            default if name is None else name,
            parsed_splits(split),
            shard_bytes,
            on_problem=lambda problem: report(problem, shown, as_json=as_json),
            on_total=shown.set_total,
            on_progress=shown.advance,
        )
        with explaining_interrupts(shown):
            counts = export_images(location.address, what, token=location.token)
    parts = [f"{counts['images']:,} images", f"{counts['written']:,} written"]
    parts.append(f"{counts['kept']:,} there already")
    if counts["bad"]:
        parts.append(f"{counts['bad']:,} skipped or left over")
    end_with_counts(counts, COUNTS, ", ".join(parts), as_json=as_json)
