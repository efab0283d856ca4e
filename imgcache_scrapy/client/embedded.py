"""The embedded road: the cache in this process, without a server and without HTTP."""

import asyncio
import logging
import threading
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import unquote, urlsplit

from imgcache_scrapy.core.entry import Entry
from imgcache_scrapy.core.errors import ConfigurationError, ImgCacheError, UnavailableError
from imgcache_scrapy.core.joining import Calls

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from imgcache_scrapy.engine.async_cache import AsyncImageCache
    from imgcache_scrapy.engine.cache import ImageCache

    Question = Callable[[AsyncImageCache], Awaitable["T"]]

T = TypeVar("T")

logger = logging.getLogger(__name__)

_LIBRARIES = ("numpy", "obstore", "PIL", "sqlalchemy")
# So many calls may be under way; the others wait in line.
_CALLS = 64


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


class EmbeddedRoad:
    """Leads to the cache in a folder, which the first call opens.

    Its methods are a client's, with arguments that the client has checked.

    Args:
        folder: where the cache lives; created when missing.
        timeout: seconds for one call; None for no limit.

    Raises:
        ConfigurationError: the libraries of the cache are not installed, or the folder cannot be.
    """

    def __init__(self, folder: Path, timeout: float | None) -> None:
        missing = [name for name in _LIBRARIES if find_spec(name) is None]
        if missing:
            raise ConfigurationError(
                "the embedded cache is not installed: pip install 'imgcache-scrapy[server]', "
                f"or set IMGCACHE_URL to a service (missing: {', '.join(missing)})"
            )
        # Not at the top, since talking to a service needs none of it; and not with the first call,
        # since importing in a thread makes the event loop stall.
        from imgcache_scrapy.engine import async_cache  # noqa: F401, PLC0415

        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigurationError(f"there can be no cache in {folder}: {error}") from error
        self._folder = folder
        self._calls = Calls(_CALLS, timeout)
        self._opening: asyncio.Future[AsyncImageCache] | None = None

    async def store(
        self,
        key: str,
        data: bytes,
        client_name: str,
        *,
        bucket: str,
        lookup_time: datetime | None,
        filename: str | None,
    ) -> Entry:
        """As `AsyncImgCacheClient.store`."""
        options: Any = {"bucket": bucket, "lookup_time": lookup_time, "filename": filename}
        return await self._ask(lambda cache: cache.store(key, data, client_name, **options))

    async def get_bytes(self, content_hash: str, bucket: str) -> bytes:
        """As `AsyncImgCacheClient.get_bytes`."""
        return (await self._ask(lambda cache: cache.get_bytes(content_hash, bucket)))[0]

    async def get_meta(self, content_hash: str, bucket: str) -> Entry | None:
        """As `AsyncImgCacheClient.get_meta`."""
        return await self._ask(lambda cache: cache.get_meta(content_hash, bucket))

    async def lookup(self, key: str, bucket: str | None) -> Entry | None:
        """As `AsyncImgCacheClient.lookup`."""
        return await self._ask(lambda cache: cache.lookup(key, bucket))

    async def lookup_many(self, keys: list[str], bucket: str | None) -> dict[str, Entry]:
        """As `AsyncImgCacheClient.lookup_many`."""
        return await self._ask(lambda cache: cache.lookup_many(keys, bucket))

    async def search(self, part: str, bucket: str | None, limit: int | None) -> list[Entry]:
        """As `AsyncImgCacheClient.search`."""
        return await self._ask(lambda cache: cache.search(part, bucket, limit))

    async def similar(
        self, perceptual_hash: str, max_distance: int, bucket: str | None, limit: int | None
    ) -> list[Entry]:
        """As `AsyncImgCacheClient.similar`."""
        bits = int(perceptual_hash, 16)
        return await self._ask(lambda cache: cache.similar(bits, max_distance, bucket, limit))

    async def delete(self, content_hash: str, bucket: str) -> None:
        """As `AsyncImgCacheClient.delete`."""
        await self._ask(lambda cache: cache.delete(content_hash, bucket))

    async def health(self) -> dict[str, Any]:
        """As `AsyncImgCacheClient.health`."""
        return await self._ask(lambda cache: cache.health())

    async def stats(self) -> dict[str, int]:
        """As `AsyncImgCacheClient.stats`."""
        return await self._ask(lambda cache: cache.totals())

    async def aclose(self) -> None:
        """Let the calls under way finish and give the cache back."""
        await self._calls.finish()
        if self._opening is not None:
            await asyncio.to_thread(self._close, await self._opening)

    async def _ask(self, question: "Question[T]") -> T:
        return await self._calls.make(lambda: self._answer(question))

    async def _answer(self, question: "Question[T]") -> T:
        try:
            return await question(await self._opened())
        except ImgCacheError:
            raise
        except Exception as error:
            logger.exception("The embedded cache failed: %s", type(error).__name__)
            raise UnavailableError("the cache failed; its log says why") from error

    async def _opened(self) -> "AsyncImageCache":
        if self._opening is None:
            self._opening = asyncio.ensure_future(asyncio.to_thread(self._open))
        try:
            return await asyncio.shield(self._opening)
        except Exception:
            self._opening = None
            raise

    def _open(self) -> "AsyncImageCache":
        from imgcache_scrapy.engine.async_cache import AsyncImageCache  # noqa: PLC0415

        return AsyncImageCache(_shared.borrow(self._folder))

    def _close(self, cache: "AsyncImageCache") -> None:
        cache.close()
        _shared.give_back(self._folder)


class _SharedCaches:
    """One thread-safe cache per folder and process, for as long as somebody uses it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[Path, tuple[ImageCache, int]] = {}

    def borrow(self, folder: Path) -> "ImageCache":
        from imgcache_scrapy.engine.cache import ImageCache  # noqa: PLC0415

        with self._lock:
            cache, users = self._open.get(folder) or (ImageCache.in_folder(folder), 0)
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
