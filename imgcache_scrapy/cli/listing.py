"""`imgcache ls`: the captures of a cache, newest first."""

import json
from collections.abc import Callable, Iterator
from functools import partial
from typing import Annotated, TypeVar

import typer

from imgcache_scrapy.cli.location import CacheArgument, open_client, use_cache
from imgcache_scrapy.cli.options import filtered
from imgcache_scrapy.cli.output import JsonOption
from imgcache_scrapy.client.client import ImgCacheClient
from imgcache_scrapy.core.entry import Entry
from imgcache_scrapy.core.filters import Filters
from imgcache_scrapy.core.limits import MAX_PAGE_ENTRIES
from imgcache_scrapy.core.pages import ItemList
from imgcache_scrapy.core.text import printable

T = TypeVar("T")


@filtered
def ls(
    cache: CacheArgument = None,
    *,
    filters: Filters,
    limit: Annotated[int | None, typer.Option(help="List at most this number.", min=1)] = None,
    count: Annotated[bool, typer.Option("--count", help="Print only how many there are.")] = False,
    as_json: JsonOption = False,
) -> None:
    """List what was fetched, newest first: time, type, bytes, size, content hash and URL."""
    with open_client(use_cache(cache)) as client:
        if count:
            counts = client.count(**filters)
            typer.echo(json.dumps(counts) if as_json else counts["captures"])
            return
        for entry in listed(client, filters, limit):
            typer.echo(json.dumps(entry) if as_json else _line(entry))


def listed(client: ImgCacheClient, filters: Filters, limit: int | None = None) -> Iterator[Entry]:
    """Yield the entries that `client.list` returns, without having all of them in memory."""
    for page in pages_of(partial(client.list, **filters), limit):
        yield from page


def pages_of(read: Callable[..., ItemList[T]], limit: int | None = None) -> Iterator[list[T]]:
    """Yield the parts of a list, each of a bounded length.

    Args:
        read: reads a part; called with its `limit`, and the position `after` which it begins.
        limit: maximum number of all together; None for no limit.
    """
    after, missing = None, limit
    while missing is None or missing > 0:
        size = MAX_PAGE_ENTRIES if missing is None else min(missing, MAX_PAGE_ENTRIES)
        page = read(limit=size, after=after)
        yield page
        after = page.after
        if after is None:
            return
        missing = None if missing is None else missing - len(page)


def _line(entry: Entry) -> str:
    width, height = entry["width"], entry["height"]
    parts = (
        entry["lookup_time"][:19],
        f"{entry['content_type']:<10}",
        f"{entry['file_size_bytes']:>11,}",
        f"{'-' if width is None else f'{width}x{height}':>11}",
        entry["content_hash"],
        printable(entry["url"]),
        *(["(damaged)"] if entry.get("damaged") else ()),
    )
    return "  ".join(parts)
