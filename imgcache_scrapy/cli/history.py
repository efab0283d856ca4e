"""`imgcache history`: which images a URL has given, and when."""

import json
from typing import Annotated

import typer
from rich.table import Table

from imgcache_scrapy.cli.location import CacheArgument, open_client, use_cache
from imgcache_scrapy.cli.output import JsonOption, print_table
from imgcache_scrapy.core.entry import Entry
from imgcache_scrapy.core.text import printable


def history(
    url: Annotated[str, typer.Argument(help="The URL of an image.")],
    cache: CacheArgument = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Print all captures of a URL, newest first; the exit code is 1 if there is none."""
    with open_client(use_cache(cache)) as client:
        entries = client.history(url)
    if as_json:
        for entry in entries:
            typer.echo(json.dumps(entry))
    elif entries:
        print_table(_table(entries))
    else:
        typer.echo(f"the cache has no capture of {printable(url)}", err=True)
    if not entries:
        raise typer.Exit(1)


def _table(entries: list[Entry]) -> Table:
    table = Table("fetched", "content hash", "type", "bytes", "bucket", "URL")
    table.columns[3].justify = "right"
    for entry in entries:
        table.add_row(
            entry["lookup_time"],
            entry["content_hash"],
            entry["content_type"],
            f"{entry['file_size_bytes']:,}",
            printable(entry.get("bucket", "")),
            printable(entry["url"]),
        )
    return table
