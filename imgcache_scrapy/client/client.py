"""The clients of the cache: `AsyncImgCacheClient`, and `ImgCacheClient` derived from it.

A client checks its arguments and passes the call to a transport, over HTTP or in this process.
"""

import asyncio
from collections.abc import Iterable
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote

from imgcache_scrapy.client.address import folder_of
from imgcache_scrapy.client.blocking import BlockingClient, blocking
from imgcache_scrapy.client.embedded import embedded_transport
from imgcache_scrapy.client.transport import Transport
from imgcache_scrapy.core.checks import (
    checked_distance,
    checked_hash,
    checked_limit,
    checked_perceptual_hash,
    checked_text,
    checked_time,
    checked_token,
)
from imgcache_scrapy.core.entry import Entry
from imgcache_scrapy.core.errors import InvalidRequestError
from imgcache_scrapy.core.urls import cache_key

if TYPE_CHECKING:
    import httpx

# What `imgcache serve` listens on when told nothing else.
SERVICE_URL = "http://127.0.0.1:8010"


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

    Attributes:
        transport: the calls that the methods make, without their checks of the arguments.

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
        self.transport: Transport = (
            _http_transport(self._base, timeout, token, transport)
            if folder is None
            else embedded_transport(folder, timeout)
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
        return await self.transport.store(
            cache_key(url),
            file_bytes,
            checked_text("a client's name", client_name),
            bucket=self._or_own(bucket),
            lookup_time=checked_time(lookup_time),
            filename=None if filename is None else checked_text("a file name", filename),
        )

    async def get_bytes(self, content_hash: str, *, bucket: str | None = None) -> bytes:
        """Read an image's bytes, verified against its hash.

        Raises:
            NotFoundError: it is not in this bucket, or its bytes are missing or damaged.
        """
        return await self.transport.get_bytes(checked_hash(content_hash), self._or_own(bucket))

    async def get_meta(self, content_hash: str, *, bucket: str | None = None) -> Entry | None:
        """Find an image's newest capture in this bucket, None where there is none."""
        return await self.transport.get_meta(checked_hash(content_hash), self._or_own(bucket))

    async def lookup(self, url: str, *, bucket: str | None = None) -> Entry | None:
        """Find the newest capture of a URL, None where there is none."""
        return await self.transport.lookup(cache_key(url), self._or_all(bucket))

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
        found = await self.transport.lookup_many(distinct, self._or_all(bucket)) if distinct else {}
        return {url: found[key] for url, key in keys.items() if key in found}

    async def search(
        self, url_contains: str, *, bucket: str | None = None, limit: int | None = None
    ) -> list[Entry]:
        """Find captures by a part of their URL, case-sensitive and literal.

        Returns:
            One entry per URL, newest first.
        """
        part = checked_text("a part of a URL", url_contains)
        return await self.transport.search(part, self._or_all(bucket), checked_limit(limit))

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
        return await self.transport.similar(
            checked_perceptual_hash(perceptual_hash),
            checked_distance(max_hamming_distance),
            self._or_all(bucket),
            checked_limit(limit),
        )

    async def delete(self, content_hash: str, *, bucket: str | None = None) -> None:
        """Forget this bucket's captures of an image; with the last one the image itself.

        Raises:
            NotFoundError: this bucket has none.
        """
        await self.transport.delete(checked_hash(content_hash), self._or_own(bucket))

    def serve_url(self, content_hash: str, *, bucket: str | None = None) -> str:
        """Give the image's address for a browser.

        An embedded cache has none of its own: this is the one under which `imgcache serve` shows
        it when told nothing else.
        """
        name = self._or_own(bucket)
        query = f"?bucket={quote(name, safe='')}" if name else ""
        return f"{self._base}/serve/{checked_hash(content_hash)}{query}"

    async def health(self) -> dict[str, Any]:
        """Ask whether the cache works: `{"status": "ok", …}`."""
        return await self.transport.health()

    async def stats(self) -> dict[str, int]:
        """Return the numbers of `images`, `captures`, `bytes` and `damaged` images."""
        return await self.transport.stats()

    async def buckets(self) -> dict[str, int]:
        """Return the buckets that have captures, in alphabetical order, with their number."""
        return await self.transport.buckets()

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
            await self.transport.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def _or_own(self, bucket: str | None) -> str:
        return checked_text("a bucket", self._bucket if bucket is None else bucket)

    def _or_all(self, bucket: str | None) -> str | None:
        return None if bucket is None and not self._bucket else self._or_own(bucket)


class ImgCacheClient(BlockingClient):
    """The blocking client of a cache, for any thread.

    It has the arguments, methods, results and errors of `AsyncImgCacheClient`. It may be called
    where an event loop runs, as in a spider's callback, and blocks that loop meanwhile.
    """

    _client: AsyncImgCacheClient

    def __init__(
        self,
        base_url: str,
        timeout: float | None = 30.0,
        *,
        token: str | None = None,
        bucket: str = "",
        transport: "httpx.AsyncBaseTransport | None" = None,
    ) -> None:
        super().__init__(
            AsyncImgCacheClient(base_url, timeout, token=token, bucket=bucket, transport=transport)
        )

    store = blocking(AsyncImgCacheClient.store)
    get_bytes = blocking(AsyncImgCacheClient.get_bytes)
    get_meta = blocking(AsyncImgCacheClient.get_meta)
    lookup = blocking(AsyncImgCacheClient.lookup)
    lookup_many = blocking(AsyncImgCacheClient.lookup_many)
    search = blocking(AsyncImgCacheClient.search)
    similar = blocking(AsyncImgCacheClient.similar)
    delete = blocking(AsyncImgCacheClient.delete)
    health = blocking(AsyncImgCacheClient.health)
    stats = blocking(AsyncImgCacheClient.stats)
    buckets = blocking(AsyncImgCacheClient.buckets)

    def serve_url(self, content_hash: str, *, bucket: str | None = None) -> str:
        """Return the image's address for a browser; as `AsyncImgCacheClient.serve_url`."""
        return self._client.serve_url(content_hash, bucket=bucket)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _http_transport(*args: Any) -> Transport:
    # Imported here, since an embedded cache needs no HTTP.
    from imgcache_scrapy.client.http import HttpTransport  # noqa: PLC0415

    return HttpTransport(*args)
