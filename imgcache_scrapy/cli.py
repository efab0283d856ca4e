"""`imgcache …`: the service, and a look into a cache without a crawl."""

import os
import sys
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

if find_spec("typer") is None:
    sys.exit("the commands are not installed: pip install 'imgcache-scrapy[server]'")

import typer
from rich.console import Console
from rich.table import Table

from imgcache_scrapy.client import ImgCacheClient
from imgcache_scrapy.embedded import folder_of
from imgcache_scrapy.entry import checked_token, is_content_hash
from imgcache_scrapy.errors import ConfigurationError, ImgCacheError, NotFoundError

app = typer.Typer(
    help="One image cache in front of the download.", no_args_is_help=True, add_completion=False
)
Cache = Annotated[
    str,
    typer.Argument(
        envvar="IMGCACHE_URL",
        help="http(s)://host:port of a service, or the folder of an embedded cache.",
    ),
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


def main() -> None:
    """Run a command; what went wrong is told in one sentence."""
    try:
        app()
    except (ImgCacheError, OSError) as error:
        sys.exit(f"imgcache: {error}")


def _existing(cache: str) -> ImgCacheClient:
    """Open a cache, but do not make one where there is none."""
    folder = folder_of(cache)
    if folder is not None and not folder.exists() and "IMGCACHE_DATABASE_URL" not in os.environ:
        raise ConfigurationError(f"there is no cache in {folder}: name its folder or its service")
    return ImgCacheClient(cache, token=os.environ.get("IMGCACHE_TOKEN"))
