"""`imgcache …`: the service, and a look into a cache without a crawl."""

import asyncio
import logging
import os
import sys
from collections import Counter
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

if find_spec("typer") is None:
    sys.exit("the commands are not installed: pip install 'imgcache-scrapy[server]'")

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from imgcache_scrapy.client import AsyncImgCacheClient, ImgCacheClient
from imgcache_scrapy.embedded import folder_of
from imgcache_scrapy.entry import checked_token, is_content_hash
from imgcache_scrapy.errors import (
    ConfigurationError,
    ImgCacheError,
    NotFoundError,
    UnavailableError,
)
from imgcache_scrapy.resilience import ResilientClient
from imgcache_scrapy.spool import Spool

app = typer.Typer(
    help="One image cache in front of the download.", no_args_is_help=True, add_completion=False
)
spool = typer.Typer(help="The images that a cache did not take yet.", no_args_is_help=True)
app.add_typer(spool, name="spool")
Cache = Annotated[
    str,
    typer.Argument(
        envvar="IMGCACHE_URL",
        help="http(s)://host:port of a service, or the folder of an embedded cache.",
    ),
]
SpoolFolder = Annotated[
    Path, typer.Option("--folder", envvar="IMGCACHE_SPOOL_DIR", help="The folder of the spool.")
]
SPOOL = Path(".scrapy", "imgcache-spool")


@app.command()
def serve(
    *,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port to listen on.", min=0, max=65535)] = 8010,
    database: Annotated[
        str | None,
        typer.Option(envvar="IMGCACHE_DATABASE_URL", help="Default: SQLite in ./imgcache."),
    ] = None,
    blobs: Annotated[
        str | None,
        typer.Option(envvar="IMGCACHE_BLOBS_URL", help="Default: files in ./imgcache/blobs."),
    ] = None,
    token: Annotated[
        str | None,
        typer.Option(
            envvar="IMGCACHE_TOKEN",
            help="What clients must bear; in the environment nobody else sees it.",
        ),
    ] = None,
    workers: Annotated[int, typer.Option(help="How many processes answer.", min=1)] = 1,
) -> None:
    """Serve a cache to many crawlers."""
    import uvicorn  # noqa: PLC0415 - only this command needs it

    from imgcache_scrapy.engine.cache import DEFAULT_FOLDER, open_cache  # noqa: PLC0415

    # The workers are processes of their own, and read all this from here.
    os.environ |= {
        "IMGCACHE_DATABASE_URL": database or "",
        "IMGCACHE_BLOBS_URL": blobs or "",
        "IMGCACHE_TOKEN": checked_token(token) or "",
    }
    open_cache(DEFAULT_FOLDER).close()
    with TemporaryDirectory(prefix="imgcache-metrics-") as metrics:
        if workers > 1:
            os.environ["PROMETHEUS_MULTIPROC_DIR"] = metrics
        uvicorn.run(
            "imgcache_scrapy.server.app:app_from_environment",
            factory=True,
            http="imgcache_scrapy.server.protocol:ImpatientProtocol",
            host=host,
            port=port,
            workers=workers,
            access_log=False,
            server_header=False,
        )


@app.command()
def stats(cache: Cache = "imgcache") -> None:
    """Count what a cache holds."""
    with _existing(cache) as client:
        counts = client.stats()
    table = Table("what", "how many", title=f"Image cache {cache}")
    table.columns[1].justify = "right"
    for name, count in counts.items():
        table.add_row(name, f"{count:,}")
    Console().print(table)


@app.command()
def get(
    url_or_hash: Annotated[str, typer.Argument(help="An image's URL or its content hash.")],
    cache: Cache = "imgcache",
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="The file to write; else standard output.")
    ] = None,
) -> None:
    """Write an image's bytes, exactly as they were stored."""
    with _existing(cache) as client:
        if is_content_hash(url_or_hash):
            data = client.get_bytes(url_or_hash)
        else:
            entry = client.lookup(url_or_hash)
            if entry is None:
                raise NotFoundError(f"no image is known under {url_or_hash}")
            data = client.get_bytes(entry["content_hash"], bucket=entry.get("bucket"))
    if output is not None:
        output.write_bytes(data)
    elif sys.stdout.isatty():
        raise ConfigurationError("an image is no text for a terminal: give -o FILE")
    else:
        sys.stdout.buffer.write(data)


@spool.command("list")
def list_spool(folder: SpoolFolder = SPOOL) -> None:
    """List the images that wait for the cache, and those that it refused."""
    table = Table("url", "bytes", "fetched", "bucket", "state", title=f"Spool {folder}")
    table.columns[1].justify = "right"
    for waiting in Spool(folder).listed():
        record, state = waiting.record, waiting.reason or "waiting"
        if record is None:
            table.add_row(waiting.name, f"{waiting.size:,}", "", "", Text(f"damaged; {state}"))
        else:
            fetched, size = f"{record.lookup_time:%Y-%m-%d %H:%M:%S}", f"{len(record.data):,}"
            table.add_row(Text(record.url), size, fetched, Text(record.bucket), Text(state))
    Console().print(table)


@spool.command("replay")
def replay_spool(cache: Cache = "imgcache", folder: SpoolFolder = SPOOL) -> None:
    """Store the images that wait, until the cache takes no more."""
    _check_existing(cache)
    stored = asyncio.run(_replayed(cache, folder))
    typer.echo(f"{stored} stored")
    left = len(Spool(folder).names())
    if left:
        raise UnavailableError(f"{left} images wait on in {folder}")


def main() -> None:
    """Run a command; what went wrong is told in one sentence."""
    try:
        app()
    except (ImgCacheError, OSError) as error:
        sys.exit(f"imgcache: {error}")


async def _replayed(cache: str, folder: Path) -> int:
    counts: Counter[str] = Counter()

    def log(level: int, message: str, *args: object) -> None:
        if level >= logging.WARNING:
            typer.echo(message % args, err=True)

    async with AsyncImgCacheClient(cache, token=os.environ.get("IMGCACHE_TOKEN")) as client:
        resilient = ResilientClient(
            client, folder, count=lambda name: counts.update([name]), log=log
        )
        await resilient.aclose()
    return counts["replayed"]


def _existing(cache: str) -> ImgCacheClient:
    """Open a cache, but do not make one where there is none."""
    _check_existing(cache)
    return ImgCacheClient(cache, token=os.environ.get("IMGCACHE_TOKEN"))


def _check_existing(cache: str) -> None:
    folder = folder_of(cache)
    if folder is not None and not folder.exists() and "IMGCACHE_DATABASE_URL" not in os.environ:
        raise ConfigurationError(f"there is no cache in {folder}: name its folder or its service")
