"""`imgcache stats` and `imgcache get`: count and read the images of a cache."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Column, Table
from rich.text import Text

from imgcache_scrapy.cli.location import CacheArgument, open_client, use_cache
from imgcache_scrapy.cli.output import JsonOption, print_table, replace_file
from imgcache_scrapy.core.entry import is_content_hash
from imgcache_scrapy.core.errors import ConfigurationError, NotFoundError
from imgcache_scrapy.core.filters import GROUPS
from imgcache_scrapy.core.text import printable


def stats(
    cache: CacheArgument = None,
    *,
    by: Annotated[
        str | None,
        typer.Option(metavar="|".join(GROUPS), help="Count each group; the largest ones first."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Print how many images, captures and bytes a cache has."""
    with open_client(use_cache(cache)) as client:
        counts = client.stats(by)
    if as_json and by is not None:
        for name, each in counts.items():
            typer.echo(json.dumps({by: name, **each}))
    elif as_json:
        typer.echo(json.dumps(counts))
    else:
        print_table(_counts_table(counts) if by is None else _groups_table(by, counts))


def _counts_table(counts: dict[str, int]) -> Table:
    table = Table("what", Column("how many", justify="right"))
    for name, count in counts.items():
        table.add_row(name, f"{count:,}")
    return table


def _groups_table(by: str, groups: dict[str, dict[str, int]]) -> Table:
    names = ("captures", "images", "bytes")
    table = Table(by, *(Column(name, justify="right") for name in names))
    for name, counts in groups.items():
        table.add_row(Text(printable(name)), *(f"{counts[each]:,}" for each in names))
    return table


def get(
    url_or_hash: Annotated[str, typer.Argument(help="The URL or the content hash of an image.")],
    cache: CacheArgument = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="The file to write. Default: standard output."),
    ] = None,
) -> None:
    """Write the bytes of an image, exactly as they were stored."""
    with open_client(use_cache(cache)) as client:
        if is_content_hash(url_or_hash):
            data = client.get_bytes(url_or_hash)
        else:
            entry = client.lookup(url_or_hash)
            if entry is None:
                raise NotFoundError(
                    "the cache has no image, or only a damaged one, of the URL"
                    f" {printable(url_or_hash)}"
                )
            data = client.get_bytes(entry["content_hash"], bucket=entry.get("bucket"))
    if output is not None:
        replace_file(output, data)
    elif sys.stdout.isatty():
        raise ConfigurationError(
            "an image cannot be shown in a terminal: write it to a file with -o FILE"
        )
    else:
        sys.stdout.buffer.write(data)
