"""The clients of the cache: `AsyncImgCacheClient`, and `ImgCacheClient` in front of one.

Every road behaves alike, since there is one way: over HTTP or in this process the same requests
are made, and the blocking client is the awaited one on a loop of its own.
"""

import asyncio
import re
import threading
from collections.abc import Callable, Coroutine, Iterable
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, Self, TypeVar
from urllib.parse import quote

import httpx

from imgcache_scrapy.answers import Answer, with_distance
from imgcache_scrapy.embedded import EmbeddedTransport, folder_of
from imgcache_scrapy.entry import (
    MAX_DISTANCE,
    PERCEPTUAL_HASH_PATTERN,
    Entry,
    content_hash_of,
    is_content_hash,
)
from imgcache_scrapy.errors import (
    ConfigurationError,
    InvalidRequestError,
    NotFoundError,
    UnavailableError,
)
from imgcache_scrapy.urls import cache_key, filename_of

T = TypeVar("T")

# What `imgcache serve` listens on when told nothing else.
SERVICE_URL = "http://127.0.0.1:8010"
_CONNECTIONS = 16
_BATCH = 1000
_NO_BATCHES = (404, 405)
# Longer URLs do not go into a request line, of which servers and proxies take 8 KB at times.
_LONG = 4000
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
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        folder = folder_of(base_url) if transport is None else None
        if folder is not None:
            transport, base_url = EmbeddedTransport(folder), SERVICE_URL
        if token is not None and not (token.isascii() and token.isprintable()):
            raise ConfigurationError("a token is made of printable ASCII characters")
        self._address = (base_url, timeout, token, bucket, folder)
        self._base = base_url.rstrip("/")
        self._timeout = timeout
        self._bucket = bucket
        self._has_batches = True
        self._is_closed = False
        self._slots = asyncio.Semaphore(_CONNECTIONS)
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        # A transport alone: no redirects to follow, no proxies from the environment, and none of
        # the reference cycles in which a whole httpx client keeps bodies until they are collected.
        self._transport = transport or httpx.AsyncHTTPTransport(
            # Reading the certificates takes 40 ms.
            verify=self._base.startswith("https:"),
            trust_env=False,
            limits=httpx.Limits(max_keepalive_connections=_CONNECTIONS),
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
        key = cache_key(url)
        form = {"url": key, "client_name": client_name, "bucket": self._or_own(bucket)}
        if lookup_time is not None:
            form["lookup_time"] = _iso(lookup_time)
        file = (filename or filename_of(key) or "image", file_bytes, "application/octet-stream")
        return (await self._send("POST", "/images", data=form, files={"file": file})).stored_entry()

    async def get_bytes(self, content_hash: str, *, bucket: str | None = None) -> bytes:
        """Read an image's bytes, verified against its hash.

        Raises:
            NotFoundError: it is not in this bucket, or its bytes are missing or damaged.
        """
        data = (await self._of_image("GET", "/images/", content_hash, bucket)).body
        if content_hash_of(data) != content_hash:
            raise NotFoundError(f"the bytes of image {content_hash} came damaged")
        return data

    async def get_meta(self, content_hash: str, *, bucket: str | None = None) -> Entry | None:
        """Find an image's newest capture in this bucket, None where there is none."""
        try:
            return (await self._of_image("GET", "/images/meta/", content_hash, bucket)).entry()
        except NotFoundError:
            return None

    async def lookup(self, url: str, *, bucket: str | None = None) -> Entry | None:
        """Find the newest capture of a URL, None where there is none."""
        key = cache_key(url)
        if len(key) > _LONG and self._has_batches:
            return (await self._lookup_batch([key], bucket)).get(key)
        query = {"url": key, **self._or_all(bucket)}
        try:
            return (await self._send("GET", "/images/lookup", params=query)).entry()
        except NotFoundError:
            return None

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
        found: dict[str, Entry] = {}
        for start in range(0, len(distinct), _BATCH):
            found |= await self._lookup_batch(distinct[start : start + _BATCH], bucket)
        return {url: found[key] for url, key in keys.items() if key in found}

    async def _lookup_batch(self, keys: list[str], bucket: str | None) -> dict[str, Entry]:
        if self._has_batches:
            body = {"urls": keys, **self._or_all(bucket)}
            answer = await self._answer("POST", "/images/lookup", json=body)
            if answer.status not in _NO_BATCHES:
                return answer.checked().entries_by_url()
            self._has_batches = False
        entries = await asyncio.gather(*(self.lookup(key, bucket=bucket) for key in keys))
        return {key: entry for key, entry in zip(keys, entries, strict=True) if entry is not None}

    async def search(
        self, url_contains: str, *, bucket: str | None = None, limit: int | None = None
    ) -> list[Entry]:
        """Find captures by a part of their URL, case-sensitive and literal.

        Returns:
            One entry per URL, newest first.
        """
        query = {"url_contains": url_contains, **self._or_all(bucket), **_limited(limit)}
        return (await self._send("GET", "/images/search", params=query)).entries()[:limit]

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
        query = {
            "perceptual_hash": perceptual_hash,
            "max_hamming_distance": max_hamming_distance,
            **self._or_all(bucket),
            **_limited(limit),
        }
        found = (await self._send("GET", "/images/similar", params=query)).entries()
        entries = [with_distance(entry, perceptual_hash) for entry in found]
        return sorted(entries, key=lambda entry: entry["distance"])[:limit]

    async def delete(self, content_hash: str, *, bucket: str | None = None) -> None:
        """Forget this bucket's captures of an image; with the last one the image itself.

        Raises:
            NotFoundError: this bucket has none.
        """
        await self._of_image("DELETE", "/images/", content_hash, bucket)

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
        return (await self._send("GET", "/health")).object()

    async def stats(self) -> dict[str, int]:
        """Count `images`, `captures`, `bytes` and `damaged` images."""
        return (await self._send("GET", "/stats")).object()

    @cached_property
    def sync(self) -> "ImgCacheClient":
        """The blocking client of the same cache; closed together with this one."""
        base_url, timeout, token, bucket, folder = self._address
        where = base_url if folder is None else str(folder)
        return ImgCacheClient(where, timeout, token=token, bucket=bucket)

    async def aclose(self) -> None:
        """Close the connections; calls under way finish first in an embedded cache."""
        if "sync" in self.__dict__:
            await asyncio.to_thread(self.sync.close)
        self._is_closed = True
        await self._transport.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def _or_own(self, bucket: str | None) -> str:
        return self._bucket if bucket is None else bucket

    def _or_all(self, bucket: str | None) -> dict[str, str]:
        return {} if bucket is None and not self._bucket else {"bucket": self._or_own(bucket)}

    async def _of_image(
        self, method: str, route: str, content_hash: str, bucket: str | None
    ) -> Answer:
        query = {"bucket": self._or_own(bucket)}
        return await self._send(method, route + _content_hash(content_hash), params=query)

    async def _send(self, method: str, route: str, **content: Any) -> Answer:
        return (await self._answer(method, route, **content)).checked()

    async def _answer(self, method: str, route: str, **content: Any) -> Answer:
        if self._is_closed:
            raise UnavailableError(_CLOSED)
        try:
            request = httpx.Request(method, self._base + route, headers=self._headers, **content)
        except (UnicodeError, httpx.InvalidURL) as error:
            raise InvalidRequestError(f"this cannot be sent: {error}") from error
        async with self._slots:
            try:
                async with asyncio.timeout(self._timeout):
                    return await self._exchange(request)
            except TimeoutError as error:
                raise UnavailableError(
                    f"the cache gave no answer within {self._timeout} s"
                ) from error
            except httpx.HTTPError as error:
                reason = str(error) or type(error).__name__
                raise UnavailableError(f"the cache cannot be reached: {reason}") from error

    async def _exchange(self, request: httpx.Request) -> Answer:
        response = await self._transport.handle_async_request(request)
        try:
            return Answer(response.status_code, await response.aread())
        finally:
            await response.aclose()


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
        transport: httpx.AsyncBaseTransport | None = None,
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


def _content_hash(content_hash: str) -> str:
    if not is_content_hash(content_hash):
        raise InvalidRequestError(f"a content hash is 64 hex digits, not {content_hash!r:.100}")
    return content_hash


def _iso(time: datetime | str) -> str:
    if isinstance(time, datetime):
        return (time if time.tzinfo else time.replace(tzinfo=UTC)).isoformat()
    return time


def _limited(limit: int | None) -> dict[str, int]:
    return {} if limit is None else {"limit": limit}
