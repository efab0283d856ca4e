"""`imgcache …`: the service, and a look into a cache without a crawl."""

import asyncio
import json
import logging
import os
import sys
from collections import Counter
from contextlib import closing
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

if find_spec("typer") is None:
    sys.exit("the commands are not installed: pip install 'imgcache-scrapy[server]'")

import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table
from rich.text import Text

from imgcache_scrapy.client.address import folder_of
from imgcache_scrapy.client.client import AsyncImgCacheClient, ImgCacheClient
from imgcache_scrapy.client.resilience import ResilientClient
from imgcache_scrapy.client.spool import SPOOL_FOLDER, Spool
from imgcache_scrapy.core.checks import checked_token
from imgcache_scrapy.core.entry import is_content_hash
from imgcache_scrapy.core.errors import (
    ConfigurationError,
    ImgCacheError,
    NotFoundError,
    UnavailableError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from imgcache_scrapy.engine.blobs.files import Found
    from imgcache_scrapy.engine.cache import ImageCache
    from imgcache_scrapy.engine.upkeep import Upkeep

app = typer.Typer(
    help="One image cache in front of the download.", no_args_is_help=True, add_completion=False
)
spool = typer.Typer(help="The images that a cache did not take yet.", no_args_is_help=True)
app.add_typer(spool, name="spool")
_WRONG = ("missing", "truncated", "altered", "orphaned")
_FOUND = (*_WRONG, "healed", "removed")
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

    from imgcache_scrapy.engine.cache import DEFAULT_FOLDER, ImageCache  # noqa: PLC0415

    # The workers are processes of their own, and read all this from here.
    os.environ |= {
        "IMGCACHE_DATABASE_URL": database or "",
        "IMGCACHE_BLOBS_URL": blobs or "",
        "IMGCACHE_TOKEN": checked_token(token) or "",
    }
    ImageCache.in_folder(DEFAULT_FOLDER).close()
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
def list_spool(folder: SpoolFolder = SPOOL_FOLDER) -> None:
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
def replay_spool(cache: Cache = "imgcache", folder: SpoolFolder = SPOOL_FOLDER) -> None:
    """Store the images that wait, until the cache takes no more."""
    _existing_folder(cache)
    stored = asyncio.run(_replayed(cache, folder))
    typer.echo(f"{stored} stored")
    left = len(Spool(folder).names())
    if left:
        raise UnavailableError(f"{left} images wait on in {folder}")


@app.command()
def verify(
    cache: Cache = "imgcache",
    repair: Annotated[bool, typer.Option("--repair", help="Remove the orphans.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Write JSON.")] = False,
) -> None:
    """Read every image and check its bytes; exit code 1 when something is wrong.

    A damaged image is a miss from then on, and the next fetch heals it. Orphans are files that a
    crash left and that no image owns.
    """
    found: dict[str, list[str]] = {what: [] for what in _FOUND}
    with closing(_opened(cache)) as image_cache:
        upkeep = _upkeep(image_cache)
        images = image_cache.catalog.stats()["images"]
        screen = Console(stderr=True)
        for verdict in track(
            upkeep.examine(),
            "Reading images",
            images,
            console=screen,
            disable=not screen.is_terminal,
        ):
            if verdict.state != "sound":
                found[verdict.state].append(verdict.content_hash)
        for orphan in _removable(upkeep) if repair else upkeep.orphans():
            found["orphaned"].append(orphan.key)
            if repair and upkeep.remove(orphan):
                found["removed"].append(orphan.key)
    if as_json:
        typer.echo(json.dumps({"images": images, **found}))
    else:
        for what, names in found.items():
            for name in names:
                typer.echo(f"{what} {name}")
        counts = (f"{len(names)} {what}" for what, names in found.items() if names)
        typer.echo(", ".join([f"{images} images", *counts]))
    raise typer.Exit(any(found[what] for what in _WRONG))


@app.command()
def gc(
    cache: Cache = "imgcache",
    older_than: Annotated[
        int, typer.Option(help="Minutes; younger files are left alone.", min=0)
    ] = 60,
) -> None:
    """Remove what crashes left and no image owns, while crawls go on."""
    sizes = []
    with closing(_opened(cache)) as image_cache:
        upkeep = _upkeep(image_cache)
        for orphan in _removable(upkeep, timedelta(minutes=older_than)):
            if upkeep.remove(orphan):
                sizes.append(orphan.size)
                typer.echo(orphan.key)
    typer.echo(f"{len(sizes)} files, {sum(sizes):,} bytes removed")


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
            client.transport, folder, count=lambda name: counts.update([name]), log=log
        )
        await resilient.aclose()
    return counts["replayed"]


def _existing(cache: str) -> ImgCacheClient:
    """Open a cache, but do not make one where there is none."""
    _existing_folder(cache)
    return ImgCacheClient(cache, token=os.environ.get("IMGCACHE_TOKEN"))


def _opened(cache: str) -> "ImageCache":
    folder = _existing_folder(cache)
    if folder is None:
        raise ConfigurationError(
            f"{cache} is a service: this must be run where its catalog and its blobs are, "
            "with the name of its folder"
        )
    from imgcache_scrapy.engine.cache import ImageCache  # noqa: PLC0415 - only for these commands

    return ImageCache.in_folder(folder)


def _upkeep(cache: "ImageCache") -> "Upkeep":
    from imgcache_scrapy.engine.upkeep import Upkeep  # noqa: PLC0415 - only for these commands

    return Upkeep(cache)


def _removable(upkeep: "Upkeep", *older_than: timedelta) -> "Iterator[Found]":
    """Find the orphans, but not where that is all there is: the catalog may be another cache's."""
    orphans = upkeep.orphans(*older_than)
    if not upkeep.cache.catalog.stats()["images"] and next(orphans, None):
        raise ConfigurationError(
            "nothing is removed, since the catalog knows no image at all: is it the right one? "
            "If it is, remove the blobs by hand"
        )
    return orphans


def _existing_folder(cache: str) -> Path | None:
    folder = folder_of(cache)
    if folder is not None and not folder.exists() and "IMGCACHE_DATABASE_URL" not in os.environ:
        raise ConfigurationError(f"there is no cache in {folder}: name its folder or its service")
    return folder
