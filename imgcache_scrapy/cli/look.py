"""`imgcache stats` and `imgcache get`: count and read the images of a cache."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from imgcache_scrapy.cli.location import CacheArgument, open_client, use_cache
from imgcache_scrapy.cli.output import print_table
from imgcache_scrapy.core.entry import is_content_hash
from imgcache_scrapy.core.errors import ConfigurationError, NotFoundError
from imgcache_scrapy.core.text import printable


def stats(cache: CacheArgument = None) -> None:
    """Print how many images, captures and bytes a cache has."""
    location = use_cache(cache)
    with open_client(location) as client:
        counts = client.stats()
    table = Table("what", "how many")
    table.columns[1].justify = "right"
    for name, count in counts.items():
        table.add_row(name, f"{count:,}")
    print_table(table)


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
        output.write_bytes(data)
    elif sys.stdout.isatty():
        raise ConfigurationError(
            "an image cannot be shown in a terminal: write it to a file with -o FILE"
        )
    else:
        sys.stdout.buffer.write(data)
