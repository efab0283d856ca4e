"""`imgcache spool list` and `imgcache spool replay`: images that wait until the cache works."""

import asyncio
import json
import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any

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
from imgcache_scrapy.cli.output import JsonOption, print_table
from imgcache_scrapy.client.address import cache_name
from imgcache_scrapy.client.client import AsyncImgCacheClient
from imgcache_scrapy.client.record import DamagedRecordError, Record
from imgcache_scrapy.client.resilience import ResilientClient
from imgcache_scrapy.client.spool import Spool, SpooledRecord
from imgcache_scrapy.client.spool_index import read_header
from imgcache_scrapy.core.errors import UnavailableError
from imgcache_scrapy.core.text import printable


def list_spool(
    cache: Annotated[
        str | None,
        typer.Argument(metavar="CACHE", help="Only the images for this cache. Default: all."),
    ] = None,
    folder: SpoolOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """List the images that wait in the spool, and those that the cache refused."""
    name = None if cache is None else cache_name(cache)
    folder = use_spool(folder)
    unreadable: list[str] = []
    listed = _listed(folder, name, unreadable)
    if as_json:
        for waiting in listed:
            typer.echo(json.dumps(_fields(waiting)))
    else:
        print_table(_table(listed))
    if unreadable:
        typer.echo(f"Records that cannot be read: {', '.join(unreadable)}", err=True)


def _listed(folder: Path, name: str | None, unreadable: list[str]) -> Iterator[SpooledRecord]:
    """Yield the records for a cache, and note the names of those that cannot be read."""
    for waiting in Spool(folder).listed():
        if name is None or waiting.record is None or waiting.record.belongs_to(name):
            yield waiting
        if not waiting.is_readable:
            unreadable.append(waiting.name)


def _fields(waiting: SpooledRecord) -> dict[str, Any]:
    """Return what the list tells about a record, without its image."""
    record = waiting.record
    known = (
        {}
        if record is None
        else {
            "url": record.url,
            "key": record.key,
            "lookup_time": record.lookup_time.isoformat(),
            "cache": record.cache,
            "bucket": record.bucket,
            "client_name": record.client_name,
        }
    )
    size = waiting.size if record is None else len(record.data)
    state = {"file": waiting.name, "file_size_bytes": size, "reason": waiting.reason or None}
    return {**known, **state, "is_damaged": record is None, "is_readable": waiting.is_readable}


def _table(listed: Iterable[SpooledRecord]) -> Table:
    table = Table("url", "bytes", "fetched", "cache", "bucket", "state")
    table.columns[1].justify = "right"
    for waiting in listed:
        record, state = waiting.record, waiting.reason or "waiting"
        if record is not None:
            fetched, size = f"{record.lookup_time:%Y-%m-%d %H:%M:%S}", f"{len(record.data):,}"
            url, *texts = map(printable, (record.url, record.cache or "any", record.bucket, state))
            table.add_row(Text(url), size, fetched, *map(Text, texts))
        else:
            damage = f"damaged; {state}" if waiting.is_readable else state
            table.add_row(waiting.name, f"{waiting.size:,}", "", "", "", Text(damage))
    return table


def replay_spool(
    cache: CacheArgument = None, folder: SpoolOption = None, *, as_json: JsonOption = False
) -> None:
    """Store the images that wait in the spool for this cache; stop if the cache is down."""
    location, folder = use_cache(cache, creates=True), use_spool(folder)
    stored = asyncio.run(_replay(location, folder))
    left = Counter(each and each.belongs_to(cache_name(location.address)) for each in _left(folder))
    waiting, others = left[True] + left[None], left[False]
    if as_json:
        typer.echo(json.dumps({"stored": stored, "waiting": waiting, "waiting_elsewhere": others}))
    else:
        typer.echo(f"{stored} stored")
    if others:
        typer.echo(f"Waiting for other caches: {others}", err=True)
    if waiting:
        raise UnavailableError(f"{waiting} images still wait in {folder}")


def _left(folder: Path) -> Iterator[Record | None]:
    """Yield the records that still wait, without their images; None for an unreadable one."""
    spool = Spool(folder)
    for name in spool.names():
        try:
            yield read_header(spool.folder / name)
        except (OSError, DamagedRecordError):
            yield None


async def _replay(location: Location, folder: Path) -> int:
    counts: Counter[str] = Counter()

    def log(level: int, message: str, *args: object) -> None:
        if level >= logging.WARNING:
            typer.echo(printable(message % args), err=True)

    async with AsyncImgCacheClient(location.address, **location.client_options) as client:
        resilient = ResilientClient(
            client.transport,
            folder,
            cache_name=cache_name(location.address),
            count=lambda name: counts.update([name]),
            log=log,
        )
        await resilient.aclose(tries_all=True)
    return counts["replayed"]
