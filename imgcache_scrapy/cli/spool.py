"""`imgcache spool list` and `imgcache spool replay`: images that wait until the cache works."""

import asyncio
import logging
from collections import Counter
from pathlib import Path

import typer
from rich.table import Table
from rich.text import Text

from imgcache_scrapy.cli.location import (
    CacheArgument,
    Location,
    SpoolOption,
    use_cache,
    use_spool,
)
from imgcache_scrapy.cli.output import print_table
from imgcache_scrapy.client.client import AsyncImgCacheClient
from imgcache_scrapy.client.resilience import ResilientClient
from imgcache_scrapy.client.spool import Spool
from imgcache_scrapy.core.errors import UnavailableError


def list_spool(folder: SpoolOption = None) -> None:
    """List the images that wait in the spool, and those that the cache refused."""
    folder = use_spool(folder)
    table = Table("url", "bytes", "fetched", "bucket", "state")
    table.columns[1].justify = "right"
    for waiting in Spool(folder).listed():
        record, state = waiting.record, waiting.reason or "waiting"
        if record is None:
            table.add_row(waiting.name, f"{waiting.size:,}", "", "", Text(f"damaged; {state}"))
        else:
            fetched, size = f"{record.lookup_time:%Y-%m-%d %H:%M:%S}", f"{len(record.data):,}"
            table.add_row(Text(record.url), size, fetched, Text(record.bucket), Text(state))
    print_table(table)


def replay_spool(cache: CacheArgument = None, folder: SpoolOption = None) -> None:
    """Store the images that wait in the spool; stop if the cache fails."""
    location, folder = use_cache(cache), use_spool(folder)
    stored = asyncio.run(_replay(location, folder))
    typer.echo(f"{stored} stored")
    left = len(Spool(folder).names())
    if left:
        raise UnavailableError(f"{left} images still wait in {folder}")


async def _replay(location: Location, folder: Path) -> int:
    counts: Counter[str] = Counter()

    def log(level: int, message: str, *args: object) -> None:
        if level >= logging.WARNING:
            typer.echo(message % args, err=True)

    async with AsyncImgCacheClient(location.address, token=location.token) as client:
        resilient = ResilientClient(
            client.transport, folder, count=lambda name: counts.update([name]), log=log
        )
        await resilient.aclose()
    return counts["replayed"]
