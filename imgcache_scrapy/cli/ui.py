"""`imgcache ui`: show a cache in the browser."""

import os
import socket
import threading
import webbrowser
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from imgcache_scrapy.cli.location import use_cache, use_spool
from imgcache_scrapy.cli.serve import check_libraries
from imgcache_scrapy.core.errors import ConfigurationError

_HOST = "127.0.0.1"
_SPOOL = "IMGCACHE_SPOOL_DIR"


def ui(
    cache: Annotated[
        str | None,
        typer.Argument(
            metavar="CACHE",
            envvar="IMGCACHE_URL",
            help="The folder of the cache. Default: the cache of the current Scrapy project, else "
            "./imgcache.",
        ),
    ] = None,
    *,
    port: Annotated[
        int, typer.Option(help="The port to listen on. Default: a free one.", min=0, max=65535)
    ] = 0,
    browser: Annotated[bool, typer.Option(help="Open the page in the browser.")] = True,
) -> None:
    """Show a cache in the browser, on this machine only, until Ctrl-C."""
    check_libraries()
    location = use_cache(cache)
    folder = location.folder
    if folder is None:
        raise ConfigurationError(
            f"{location} is the address of a service: open it in the browser, it has the same page"
        )
    named = os.environ.get(_SPOOL)
    os.environ[_SPOOL] = str(use_spool(Path(named) if named else None))
    os.environ["IMGCACHE_FOLDER"] = str(folder)
    # No other machine can reach the page, so that there is nothing to sign in to.
    os.environ["IMGCACHE_TOKEN"] = os.environ["IMGCACHE_ALLOWED_HOSTS"] = ""
    with _listen(port) as listener:
        address = f"http://{_HOST}:{listener.getsockname()[1]}/"

        def announce() -> None:
            typer.echo(f"The page is at {address}; Ctrl-C ends it", err=True)
            if browser:
                # In a thread: a browser in the terminal ends only when it is closed.
                threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()

        _serve(listener, announce)


def _listen(port: int) -> socket.socket:
    try:
        return socket.create_server((_HOST, port))
    except OSError as error:
        raise ConfigurationError(
            f"the page cannot use port {port}: {error.strerror}; choose another one by --port"
        ) from error


def _serve(listener: socket.socket, on_start: Callable[[], None]) -> None:
    import uvicorn  # noqa: PLC0415 - only this command and `serve` need it

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            on_start()

    config = uvicorn.Config(
        "imgcache_scrapy.server.app:app_from_environment",
        factory=True,
        http="imgcache_scrapy.server.protocol:LimitedHttpProtocol",
        access_log=False,
        log_level="warning",
        server_header=False,
    )
    with suppress(KeyboardInterrupt):
        Server(config).run([listener])
