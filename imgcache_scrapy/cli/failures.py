"""`imgcache failures`: the dead URLs that crawls do not ask again yet."""

from typing import Annotated

import typer

from imgcache_scrapy.cli.location import CacheArgument, open_client, use_cache
from imgcache_scrapy.cli.output import JsonOption, print_rows


def failures(
    cache: CacheArgument = None,
    *,
    host: Annotated[str | None, typer.Option(help="Only those of this host.")] = None,
    since: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Only those since then, UTC: 2026-11-27T08:00:00."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List the failures of sites that the cache remembers, newest first."""
    columns = ("url", "reason", "failed_at", "expires_at", "bucket")
    with open_client(use_cache(cache)) as client:
        print_rows(client.failures(host=host, since=since), columns, as_json=as_json)
