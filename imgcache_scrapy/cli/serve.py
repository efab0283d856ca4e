"""`imgcache serve`: start the service of a cache."""

import os
import socket
from contextlib import nullcontext
from errno import EADDRNOTAVAIL, EAFNOSUPPORT
from importlib.util import find_spec
from pathlib import Path
from tempfile import gettempdir
from typing import Annotated, Any

import typer

from imgcache_scrapy.cli.location import DEFAULT_CACHE, Location, announce, find_cache
from imgcache_scrapy.client.address import folder_of
from imgcache_scrapy.core.checks import checked_token
from imgcache_scrapy.core.errors import ConfigurationError

# The libraries of the extra `server`, without uvloop, which is optional.
_LIBRARIES = (
    "fastapi",
    "httptools",
    "jinja2",
    "prometheus_client",
    "python_multipart",
    "starlette",
    "uvicorn",
)


def serve(
    cache: Annotated[
        str | None,
        typer.Argument(
            metavar="CACHE",
            help="The folder of the cache. Default: the folder in IMGCACHE_URL, "
            "else the cache of the current Scrapy project, else ./imgcache.",
        ),
    ] = None,
    *,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port to listen on.", min=0, max=65535)] = 8010,
    database: Annotated[
        str | None,
        typer.Option(
            envvar="IMGCACHE_DATABASE_URL",
            help="The URL of the database. Default: SQLite in the folder.",
        ),
    ] = None,
    blobs: Annotated[
        str | None,
        typer.Option(
            envvar="IMGCACHE_BLOBS_URL",
            help="The URL of the blobs. Default: files in the folder.",
        ),
    ] = None,
    token: Annotated[
        str | None,
        typer.Option(
            envvar="IMGCACHE_TOKEN",
            help="The bearer token that clients must send. Set it in the environment, because "
            "other users of this machine can read the command line.",
        ),
    ] = None,
    workers: Annotated[
        int, typer.Option(help="The number of processes that answer requests.", min=1)
    ] = 1,
    allowed_host: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="A host name under which clients call this service without a token. Needed only "
            "for names with a dot; may be given several times.",
        ),
    ] = None,
    upgrade: Annotated[
        bool,
        typer.Option("--upgrade", help="First upgrade the catalog if it has an older version."),
    ] = False,
    read_only: Annotated[
        bool,
        typer.Option("--read-only", help="Refuse every change; the page has no acts."),
    ] = False,
    no_embedding: Annotated[
        bool,
        typer.Option(
            "--no-embedding",
            help="Do not let pages of other sites show images; they could find out what is here.",
        ),
    ] = False,
) -> None:
    """Serve a cache to many crawlers."""
    check_libraries()
    import uvicorn  # noqa: PLC0415 - only this command needs it

    from imgcache_scrapy.engine.cache import ImageCache  # noqa: PLC0415
    from imgcache_scrapy.engine.location import uses_folder  # noqa: PLC0415
    from imgcache_scrapy.engine.thumbnails import max_thumbnail_bytes  # noqa: PLC0415
    from imgcache_scrapy.server.metric_files import metrics_folder  # noqa: PLC0415
    from imgcache_scrapy.server.origins import checked_host_name  # noqa: PLC0415

    # The worker processes read these variables.
    os.environ["IMGCACHE_DATABASE_URL"] = database or ""
    os.environ["IMGCACHE_BLOBS_URL"] = blobs or ""
    location = Location(DEFAULT_CACHE) if database and blobs else _cache_to_serve(cache)
    _check_address(host, port)
    folder = _folder_of(location)
    if location.project is None and uses_folder() and not folder.parent.is_dir():
        raise ConfigurationError(
            f"there is no folder {folder.parent}: create it, or correct the address of the cache"
        )
    announce("Cache", location)
    os.environ["IMGCACHE_FOLDER"] = str(folder)
    os.environ["IMGCACHE_TOKEN"] = checked_token(token) or location.token or ""
    os.environ["IMGCACHE_ALLOWED_HOSTS"] = ",".join(map(checked_host_name, allowed_host or ()))
    os.environ["IMGCACHE_READ_ONLY"] = "1" if read_only else ""
    os.environ["IMGCACHE_NO_EMBEDDING"] = "1" if no_embedding else ""
    max_thumbnail_bytes()
    ImageCache.in_folder(folder, upgrade=upgrade, create=not read_only).close()
    # A catalog and blobs elsewhere need no folder; then there may be none.
    places = [place for place in (folder, Path(gettempdir())) if place.is_dir()]
    with metrics_folder(places) if workers > 1 else nullcontext():
        uvicorn.run(
            "imgcache_scrapy.server.app:app_from_environment",
            factory=True,
            http="imgcache_scrapy.server.protocol:LimitedHttpProtocol",
            host=host,
            port=port,
            workers=workers,
            access_log=False,
            server_header=False,
        )


def _check_address(host: str, port: int) -> None:
    """Check that the service can listen on an address, before a cache is opened or created.

    Raises:
        ConfigurationError: it cannot, for example because another program does.
    """
    try:
        found = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        errors = [_listen_error(family, address) for family, _, _, _, address in found]
        # A name may have an IPv6 address on a machine without IPv6.
        for error in errors:
            if error is not None and (error.errno != EADDRNOTAVAIL or all(errors)):
                raise error
    except OSError as error:
        raise ConfigurationError(
            f"the service cannot listen on port {port} of {host}: {error.strerror}; choose another"
            " address by --host and --port, or stop the program that uses it"
        ) from error


def _listen_error(family: int, address: tuple[Any, ...]) -> OSError | None:
    """Return why a socket cannot have an address; None if it can."""
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            if os.name == "posix":
                # As uvicorn does, so that closed connections of the last service do not matter.
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        return OSError(EADDRNOTAVAIL, error.strerror) if error.errno == EAFNOSUPPORT else error
    return None


def check_libraries() -> None:
    """Check that the libraries of the service are installed.

    Raises:
        ConfigurationError: one of them is missing.
    """
    missing = [name for name in _LIBRARIES if find_spec(name) is None]
    if missing:
        raise ConfigurationError(
            "the libraries of the service are not installed: pip install 'imgcache-scrapy[server]' "
            f"(missing: {', '.join(missing)})"
        )


def _cache_to_serve(named: str | None) -> Location:
    variable = os.environ.get("IMGCACHE_URL")
    if variable and folder_of(variable) is None:
        # This is the address of a service for clients; it does not name a folder to serve.
        variable = os.environ["IMGCACHE_URL"] = ""
    return find_cache(named or variable or None)


def _folder_of(location: Location) -> Path:
    folder = location.folder
    if folder is not None:
        return folder
    raise ConfigurationError(
        f"{location} is the address of a service: give the folder of a cache, for example"
        f" ./{DEFAULT_CACHE}"
    )
