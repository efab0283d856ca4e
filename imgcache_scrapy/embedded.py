"""The embedded road: the service's own app, answering in this process through a transport."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, MutableMapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import httpx

from imgcache_scrapy.errors import ConfigurationError

if TYPE_CHECKING:
    from imgcache_scrapy.engine.cache import ImageCache
    from imgcache_scrapy.server.app import Workers

Message = MutableMapping[str, Any]
ASGIApp = Callable[
    [Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]],
    Awaitable[None],
]

_SERVER_LIBRARIES = ("fastapi", "numpy", "obstore", "PIL", "python_multipart", "sqlalchemy")


def folder_of(base_url: str) -> Path | None:
    """Tell where an embedded cache lives.

    Args:
        base_url: `http(s)://…`, `file:///folder` or a path.

    Returns:
        The folder, None for the address of a service.

    Raises:
        ConfigurationError: an address of no known kind.
    """
    try:
        parts = urlsplit(base_url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise ConfigurationError(f"{base_url!r} is no address: {error}") from error
    if parts.scheme in {"http", "https"}:
        if not host:
            raise ConfigurationError(f"{base_url!r} names no host: http://host:port is needed")
        return None
    if parts.scheme == "file":
        if host not in {None, "localhost"}:
            raise ConfigurationError(f"{base_url!r} names a host: file:///folder is needed")
        base_url = unquote(parts.path)
    if "://" in base_url or not base_url.strip():
        raise ConfigurationError(
            f"{base_url!r} is no address of a cache: http(s)://host, file:///folder or a path is"
        )
    return Path(base_url).expanduser().resolve()


class EmbeddedTransport(httpx.AsyncBaseTransport):
    """Answers requests by the app over the cache in a folder; opened by the first request.

    Args:
        folder: where the cache lives; created when missing.

    Raises:
        ConfigurationError: the libraries of the cache are not installed, or the folder cannot be.
    """

    def __init__(self, folder: Path) -> None:
        missing = [name for name in _SERVER_LIBRARIES if find_spec(name) is None]
        if missing:
            raise ConfigurationError(
                "the embedded cache is not installed: pip install 'imgcache-scrapy[server]', "
                f"or set IMGCACHE_URL to a service (missing: {', '.join(missing)})"
            )
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigurationError(f"there can be no cache in {folder}: {error}") from error
        self._folder = folder
        self._opening = asyncio.Lock()
        self._app: ASGIApp | None = None
        self._workers: Workers | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer one request; what goes wrong in the app is a 500, as over HTTP."""
        if self._app is None:
            async with self._opening:
                if self._app is None:
                    self._app = await asyncio.to_thread(self._open)
        return await _ask(self._app, request)

    async def aclose(self) -> None:
        """Let the calls under way finish and give the cache back."""
        workers, self._workers, self._app = self._workers, None, None
        if workers is not None:
            await asyncio.to_thread(self._close, workers)

    def _open(self) -> ASGIApp:
        # Imported here, since importing the package or talking to a service needs none of it.
        from imgcache_scrapy.server.app import create_app  # noqa: PLC0415

        app = create_app(_shared.borrow(self._folder))
        self._workers = app.state.workers
        return app

    def _close(self, workers: "Workers") -> None:
        workers.close()
        _shared.give_back(self._folder)


async def _ask(app: ASGIApp, request: httpx.Request) -> httpx.Response:
    """Have the app answer a request, with whole bodies.

    httpx's own ASGITransport looks for a library that is not there at each request, and hands a
    body over in pieces.
    """
    body: bytes | None = await request.aread()
    status, headers, parts = 500, [], []
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": request.url.scheme,
        "path": request.url.path,
        "raw_path": request.url.raw_path.partition(b"?")[0],
        "query_string": request.url.query,
        "root_path": "",
        "headers": [(name.lower(), value) for name, value in request.headers.raw],
        "server": (request.url.host, request.url.port),
        "client": ("127.0.0.1", 0),
    }

    async def receive() -> Message:
        nonlocal body
        if body is None:
            return {"type": "http.disconnect"}
        message, body = {"type": "http.request", "body": body, "more_body": False}, None
        return message

    async def send(message: Message) -> None:
        nonlocal status, headers
        if message["type"] == "http.response.start":
            status, headers = message["status"], message.get("headers", [])
        else:
            parts.append(message.get("body", b""))

    await app(scope, receive, send)
    return httpx.Response(status, headers=headers, content=b"".join(parts), request=request)


class _SharedCaches:
    """One thread-safe cache per folder and process, for as long as somebody uses it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[Path, tuple[ImageCache, int]] = {}

    def borrow(self, folder: Path) -> "ImageCache":
        from imgcache_scrapy.engine.cache import open_cache  # noqa: PLC0415

        with self._lock:
            cache, users = self._open.get(folder) or (open_cache(folder), 0)
            self._open[folder] = (cache, users + 1)
        return cache

    def give_back(self, folder: Path) -> None:
        with self._lock:
            cache, users = self._open.pop(folder)
            if users > 1:
                self._open[folder] = (cache, users - 1)
            else:
                cache.close()


_shared = _SharedCaches()
