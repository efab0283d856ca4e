"""The clients of the cache: `AsyncImgCacheClient`, and `ImgCacheClient` in front of one.

A client checks what it is given and sends it down a road, over HTTP or in this process; the
blocking client is the awaited one on a loop of its own.
"""

import asyncio
import re
import threading
from collections.abc import Callable, Coroutine, Iterable
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self, TypeVar
from urllib.parse import quote

from imgcache_scrapy.client.embedded import EmbeddedRoad, folder_of
from imgcache_scrapy.core.entry import (
    MAX_DISTANCE,
    PERCEPTUAL_HASH_PATTERN,
    Entry,
    checked_limit,
    checked_text,
    checked_token,
    is_content_hash,
)
from imgcache_scrapy.core.errors import InvalidRequestError, UnavailableError
from imgcache_scrapy.core.urls import cache_key

if TYPE_CHECKING:
    import httpx

    from imgcache_scrapy.client.http import RestRoad

T = TypeVar("T")

# What `imgcache serve` listens on when told nothing else.
SERVICE_URL = "http://127.0.0.1:8010"
_CLOSED = "the client is closed"


class AsyncImgCacheClient:
    """The client of a cache, awaited; to be used within one event loop.

    Args:
        base_url: `http(s)://host:port` of a service, or `file:///folder` or a path, where the
            cache is embedded in this process.
        timeout: seconds for one call, from the moment it has its connection; None for no limit.
        token: the service's bearer token.
        bucket: what calls without a bucket use; `lookup`, `search` and `similar` look in all
            buckets when it is "".
        transport: an httpx transport to use instead.

    Raises:
        ConfigurationError: the address or the token is none, or the embedded cache is not
            installed.
    """

    def __init__(
        self,
        base_url: str,
        timeout: float | None = 30.0,
        *,
        token: str | None = None,
        bucket: str = "",
        transport: "httpx.AsyncBaseTransport | None" = None,
    ) -> None:
        checked_token(token)
        folder = folder_of(base_url) if transport is None else None
        self._address = (base_url if folder is None else str(folder), timeout, token, bucket)
        self._base = (base_url if folder is None else SERVICE_URL).rstrip("/")
        self._bucket = bucket
        self._is_closed = False
        self._open_road: EmbeddedRoad | RestRoad = (
            _rest_road(self._base, timeout, token, transport)
            if folder is None
            else EmbeddedRoad(folder, timeout)
        )

    async def store(
        self,
        url: str,
        file_bytes: bytes,
        client_name: str,
        lookup_time: datetime | None = None,
        filename: str | None = None,
        *,
        bucket: str | None = None,
    ) -> Entry:
        """Keep an image and the URL that led to it.

        Args:
            url: the image's URL.
            file_bytes: the bytes, as they came.
            client_name: who stores.
            lookup_time: when it was fetched, now by default; naive times are UTC.
            filename: a hint; the last part of the URL's path by default.
            bucket: the name space.

        Returns:
            The entry, with `created`: whether the image is new. The URL is recorded either way.

        Raises:
            InvalidRequestError: there are no bytes, or the URL is none.
            TooLargeError: there are more bytes than the cache takes.
        """
        if not isinstance(file_bytes, bytes) or not file_bytes:
            raise InvalidRequestError(
                f"an image must be bytes and not empty, got {type(file_bytes).__name__}"
            )
        return await self._road.store(
            cache_key(url),
            file_bytes,
            checked_text("a client's name", client_name),
            bucket=self._or_own(bucket),
            lookup_time=_time(lookup_time),
            filename=None if filename is None else checked_text("a file name", filename),
        )

    async def get_bytes(self, content_hash: str, *, bucket: str | None = None) -> bytes:
        """Read an image's bytes, verified against its hash.

        Raises:
            NotFoundError: it is not in this bucket, or its bytes are missing or damaged.
        """
        return await self._road.get_bytes(_content_hash(content_hash), self._or_own(bucket))

    async def get_meta(self, content_hash: str, *, bucket: str | None = None) -> Entry | None:
        """Find an image's newest capture in this bucket, None where there is none."""
        return await self._road.get_meta(_content_hash(content_hash), self._or_own(bucket))

    async def lookup(self, url: str, *, bucket: str | None = None) -> Entry | None:
        """Find the newest capture of a URL, None where there is none."""
        return await self._road.lookup(cache_key(url), self._or_all(bucket))

    async def lookup_many(
        self, urls: Iterable[str], *, bucket: str | None = None
    ) -> dict[str, Entry]:
        """Find the newest captures of many URLs, in one round trip for up to 1,000.

        Args:
            urls: the URLs, in any spelling.
            bucket: where to look.

        Returns:
            URL as it was given to entry, hits only.
        """
        keys = {url: cache_key(url) for url in urls}
        distinct = list(dict.fromkeys(keys.values()))
        found = await self._road.lookup_many(distinct, self._or_all(bucket)) if distinct else {}
        return {url: found[key] for url, key in keys.items() if key in found}

    async def search(
        self, url_contains: str, *, bucket: str | None = None, limit: int | None = None
    ) -> list[Entry]:
        """Find captures by a part of their URL, case-sensitive and literal.

        Returns:
            One entry per URL, newest first.
        """
        part = checked_text("a part of a URL", url_contains)
        return await self._road.search(part, self._or_all(bucket), checked_limit(limit))

    async def similar(
        self,
        perceptual_hash: str,
        max_hamming_distance: int = 4,
        *,
        bucket: str | None = None,
        limit: int | None = None,
    ) -> list[Entry]:
        """Find the images that look like the one with this perceptual hash.

        Args:
            perceptual_hash: 16 hex digits.
            max_hamming_distance: how many of the 64 bits may differ.
            bucket: where to look.
            limit: at most so many.

        Returns:
            One entry per image, each with its `distance`, nearest first. They are suggestions:
            only equal bytes make equal images.

        Raises:
            InvalidRequestError: no such hash or distance can be.
        """
        if not re.fullmatch(PERCEPTUAL_HASH_PATTERN, perceptual_hash or ""):
            raise InvalidRequestError(
                f"a perceptual hash is 16 hex digits, not {perceptual_hash!r}"
            )
        if max_hamming_distance not in range(MAX_DISTANCE + 1):
            raise InvalidRequestError(f"a distance is 0 to 64 bits, not {max_hamming_distance!r}")
        return await self._road.similar(
            perceptual_hash, max_hamming_distance, self._or_all(bucket), checked_limit(limit)
        )

    async def delete(self, content_hash: str, *, bucket: str | None = None) -> None:
        """Forget this bucket's captures of an image; with the last one the image itself.

        Raises:
            NotFoundError: this bucket has none.
        """
        await self._road.delete(_content_hash(content_hash), self._or_own(bucket))

    def serve_url(self, content_hash: str, *, bucket: str | None = None) -> str:
        """Give the image's address for a browser.

        An embedded cache has none of its own: this is the one under which `imgcache serve` shows
        it when told nothing else.
        """
        name = self._or_own(bucket)
        query = f"?bucket={quote(name, safe='')}" if name else ""
        return f"{self._base}/serve/{_content_hash(content_hash)}{query}"

    async def health(self) -> dict[str, Any]:
        """Ask whether the cache works: `{"status": "ok", …}`."""
        return await self._road.health()

    async def stats(self) -> dict[str, int]:
        """Count `images`, `captures`, `bytes` and `damaged` images."""
        return await self._road.stats()

    @cached_property
    def sync(self) -> "ImgCacheClient":
        """The blocking client of the same cache; closed together with this one."""
        address, timeout, token, bucket = self._address
        return ImgCacheClient(address, timeout, token=token, bucket=bucket)

    async def aclose(self) -> None:
        """Close the connections; calls under way finish first in an embedded cache."""
        if "sync" in self.__dict__:
            await asyncio.to_thread(self.sync.close)
        if not self._is_closed:
            self._is_closed = True
            await self._open_road.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    @property
    def _road(self) -> "EmbeddedRoad | RestRoad":
        if self._is_closed:
            raise UnavailableError(_CLOSED)
        return self._open_road

    def _or_own(self, bucket: str | None) -> str:
        return checked_text("a bucket", self._bucket if bucket is None else bucket)

    def _or_all(self, bucket: str | None) -> str | None:
        return None if bucket is None and not self._bucket else self._or_own(bucket)


class ImgCacheClient:
    """The client of a cache, blocking; for any thread.

    As `AsyncImgCacheClient`, whose arguments, methods, answers and errors it has. It may be
    called where an event loop runs, as in a spider's callback, and blocks it meanwhile.
    """

    def __init__(
        self,
        base_url: str,
        timeout: float | None = 30.0,
        *,
        token: str | None = None,
        bucket: str = "",
        transport: "httpx.AsyncBaseTransport | None" = None,
    ) -> None:
        self._client = AsyncImgCacheClient(
            base_url, timeout, token=token, bucket=bucket, transport=transport
        )
        self._loop = _LoopThread()
        self._is_closed = False

    def store(
        self,
        url: str,
        file_bytes: bytes,
        client_name: str,
        lookup_time: datetime | None = None,
        filename: str | None = None,
        *,
        bucket: str | None = None,
    ) -> Entry:
        """As `AsyncImgCacheClient.store`."""
        return self._run(
            self._client.store, url, file_bytes, client_name, lookup_time, filename, bucket=bucket
        )

    def get_bytes(self, content_hash: str, *, bucket: str | None = None) -> bytes:
        """As `AsyncImgCacheClient.get_bytes`."""
        return self._run(self._client.get_bytes, content_hash, bucket=bucket)

    def get_meta(self, content_hash: str, *, bucket: str | None = None) -> Entry | None:
        """As `AsyncImgCacheClient.get_meta`."""
        return self._run(self._client.get_meta, content_hash, bucket=bucket)

    def lookup(self, url: str, *, bucket: str | None = None) -> Entry | None:
        """As `AsyncImgCacheClient.lookup`."""
        return self._run(self._client.lookup, url, bucket=bucket)

    def lookup_many(self, urls: Iterable[str], *, bucket: str | None = None) -> dict[str, Entry]:
        """As `AsyncImgCacheClient.lookup_many`."""
        return self._run(self._client.lookup_many, urls, bucket=bucket)

    def search(
        self, url_contains: str, *, bucket: str | None = None, limit: int | None = None
    ) -> list[Entry]:
        """As `AsyncImgCacheClient.search`."""
        return self._run(self._client.search, url_contains, bucket=bucket, limit=limit)

    def similar(
        self,
        perceptual_hash: str,
        max_hamming_distance: int = 4,
        *,
        bucket: str | None = None,
        limit: int | None = None,
    ) -> list[Entry]:
        """As `AsyncImgCacheClient.similar`."""
        return self._run(
            self._client.similar, perceptual_hash, max_hamming_distance, bucket=bucket, limit=limit
        )

    def delete(self, content_hash: str, *, bucket: str | None = None) -> None:
        """As `AsyncImgCacheClient.delete`."""
        self._run(self._client.delete, content_hash, bucket=bucket)

    def serve_url(self, content_hash: str, *, bucket: str | None = None) -> str:
        """As `AsyncImgCacheClient.serve_url`."""
        return self._client.serve_url(content_hash, bucket=bucket)

    def health(self) -> dict[str, Any]:
        """As `AsyncImgCacheClient.health`."""
        return self._run(self._client.health)

    def stats(self) -> dict[str, int]:
        """As `AsyncImgCacheClient.stats`."""
        return self._run(self._client.stats)

    def close(self) -> None:
        """As `AsyncImgCacheClient.aclose`; harmless when repeated."""
        if not self._is_closed:
            self._is_closed = True
            self._loop.end(self._client.aclose)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self, call: Callable[..., Coroutine[Any, Any, T]], *args: Any, **options: Any) -> T:
        if self._is_closed:
            raise UnavailableError(_CLOSED)
        return self._loop.run(call(*args, **options))


class _LoopThread:
    """An event loop in a thread of its own, which starts with the first call.

    A daemon, since a client that nobody closed must not keep the process from ending.
    """

    def __init__(self) -> None:
        self._starting = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        with self._starting:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(
                    target=self._loop.run_forever, name="imgcache-client", daemon=True
                )
                self._thread.start()
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def end(self, last: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run a last coroutine, if there was a first, and end the thread."""
        if self._loop is None or self._thread is None:
            return
        self.run(last())
        self.run(self._loop.shutdown_default_executor())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


def _rest_road(*args: Any) -> "RestRoad":
    # Imported here, since an embedded cache needs no HTTP.
    from imgcache_scrapy.client.http import RestRoad  # noqa: PLC0415

    return RestRoad(*args)


def _content_hash(content_hash: str) -> str:
    if not is_content_hash(content_hash):
        raise InvalidRequestError(f"a content hash is 64 hex digits, not {content_hash!r:.100}")
    return content_hash


def _time(time: datetime | str | None) -> datetime | None:
    if isinstance(time, str):
        try:
            time = datetime.fromisoformat(time)
        except ValueError as error:
            raise InvalidRequestError(f"a lookup time is ISO 8601, not {time!r:.100}") from error
    return time if time is None or time.tzinfo else time.replace(tzinfo=UTC)
