"""The clients of a cache: `AsyncImgCacheClient`, and `ImgCacheClient`, its blocking form."""

import asyncio
from collections.abc import Iterable
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote

from imgcache_scrapy.client.address import SERVICE_URL, folder_of
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
from imgcache_scrapy.core.urls import cache_key, keys_of

if TYPE_CHECKING:
    import httpx


class AsyncImgCacheClient:
    """The async client of a cache; use it within one event loop.

    Args:
        base_url: `http(s)://host:port` for a service; `file:///folder` or a path for a cache
            that is embedded in this process.
        timeout: seconds for one call from the moment it has a connection; None for no limit.
        token: the service's bearer token.
        bucket: the bucket for calls that name none. If it is "", then calls that read look in all
            buckets, and `store` and `delete` use the bucket "".
        transport: an httpx transport to use instead, also in `sync`.

    Attributes:
        transport: the connection to the cache; its methods do not check their arguments.

    Raises:
        ConfigurationError: the address or the token is not valid, or the folder cannot be created.
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
        address = base_url if folder is None else str(folder)
        self._arguments = (address, timeout, token, bucket, transport)
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
        """Store an image and the URL that it came from.

        Args:
            url: the image's URL.
            file_bytes: the bytes of the image, unchanged.
            client_name: name of the client that stores it.
            lookup_time: when it was fetched; default now. A time without an offset is UTC.
            filename: the original file name; default the last part of the URL's path.
            bucket: the bucket to store in.

        Returns:
            The entry. Its `created` says whether the image is new; the URL is recorded either way.

        Raises:
            InvalidRequestError: there are no bytes, or an argument is not valid.
            TooLargeError: the image is larger than the cache accepts.
        """
        if not isinstance(file_bytes, bytes) or not file_bytes:
            raise InvalidRequestError(
                f"an image must be bytes and not empty, got {type(file_bytes).__name__}"
            )
        return await self.transport.store(
            cache_key(url),
            file_bytes,
            checked_text("a client's name", client_name),
            bucket=self._bucket_or_own(bucket),
            lookup_time=checked_time(lookup_time),
            filename=None if filename is None else checked_text("a file name", filename),
        )

    async def get_bytes(self, content_hash: str, *, bucket: str | None = None) -> bytes:
        """Read the bytes of an image and verify them against its hash.

        Raises:
            NotFoundError: the image is not in the bucket, or its bytes are missing or damaged.
        """
        its_hash = checked_hash(content_hash)
        return await self.transport.get_bytes(its_hash, self._bucket_or_all(bucket))

    async def get_meta(self, content_hash: str, *, bucket: str | None = None) -> Entry | None:
        """Return the newest capture of an image in the bucket; None if there is none."""
        its_hash = checked_hash(content_hash)
        return await self.transport.get_meta(its_hash, self._bucket_or_all(bucket))

    async def lookup(self, url: str, *, bucket: str | None = None) -> Entry | None:
        """Return the newest capture of a URL; None if there is none."""
        return await self.transport.lookup(cache_key(url), self._bucket_or_all(bucket))

    async def lookup_many(
        self, urls: Iterable[str], *, bucket: str | None = None
    ) -> dict[str, Entry]:
        """Find the newest captures of many URLs, up to 1,000 URLs per request.

        Args:
            urls: the URLs, in any spelling, as a page has them; one that is empty, relative or
                broken is not found.
            bucket: the bucket to look in.

        Returns:
            The entry of each URL that has a capture; the keys are the URLs as given.

        Raises:
            InvalidRequestError: `urls` is a string instead of a list of strings.
        """
        keys, where = keys_of(urls), self._bucket_or_all(bucket)
        distinct = list(dict.fromkeys(keys.values()))
        found = await self.transport.lookup_many(distinct, where) if distinct else {}
        return {url: found[key] for url, key in keys.items() if key in found}

    async def search(
        self, url_contains: str, *, bucket: str | None = None, limit: int | None = None
    ) -> list[Entry]:
        """Find captures whose URL contains a text; the text is case-sensitive and literal.

        Returns:
            One entry per URL, newest first.
        """
        part = checked_text("a part of a URL", url_contains)
        return await self.transport.search(part, self._bucket_or_all(bucket), checked_limit(limit))

    async def similar(
        self,
        perceptual_hash: str,
        max_hamming_distance: int = 4,
        *,
        bucket: str | None = None,
        limit: int | None = None,
    ) -> list[Entry]:
        """Find images that look similar, by their perceptual hash.

        Args:
            perceptual_hash: 16 hex digits.
            max_hamming_distance: maximum number of the 64 bits that differ.
            bucket: the bucket to look in.
            limit: maximum number of entries.

        Returns:
            One entry per image with its `distance`, nearest first. They are only suggestions.

        Raises:
            InvalidRequestError: the hash or the distance is not valid.
        """
        return await self.transport.similar(
            checked_perceptual_hash(perceptual_hash),
            checked_distance(max_hamming_distance),
            self._bucket_or_all(bucket),
            checked_limit(limit),
        )

    async def delete(self, content_hash: str, *, bucket: str | None = None) -> None:
        """Delete an image's captures in this bucket; after its last capture, delete the image.

        Raises:
            NotFoundError: this bucket has no capture of the image.
        """
        await self.transport.delete(checked_hash(content_hash), self._bucket_or_own(bucket))

    def serve_url(self, content_hash: str, *, bucket: str | None = None) -> str:
        """Return the URL of an image for a browser.

        For an embedded cache, it works while `imgcache serve` runs at its default address.
        """
        name = self._bucket_or_all(bucket)
        query = f"?bucket={quote(name, safe='')}" if name else ""
        return f"{self._base}/serve/{checked_hash(content_hash)}{query}"

    async def health(self) -> dict[str, Any]:
        """Check whether the cache works; return `{"status": "ok", …}`."""
        return await self.transport.health()

    async def stats(self) -> dict[str, int]:
        """Return the numbers of `images`, `captures`, `bytes` and `damaged` images."""
        return await self.transport.stats()

    async def buckets(self) -> dict[str, int]:
        """Return the buckets in alphabetical order, each with its number of captures."""
        return await self.transport.buckets()

    @cached_property
    def sync(self) -> "ImgCacheClient":
        """The blocking client of the same cache; it is closed together with this client."""
        address, timeout, token, bucket, transport = self._arguments
        return ImgCacheClient(address, timeout, token=token, bucket=bucket, transport=transport)

    async def aclose(self) -> None:
        """Close the connections; an embedded cache first finishes the calls that are running."""
        if "sync" in self.__dict__:
            await asyncio.to_thread(self.sync.close)
        if not self._is_closed:
            self._is_closed = True
            await self.transport.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def _bucket_or_own(self, bucket: str | None) -> str:
        return checked_text("a bucket", self._bucket if bucket is None else bucket)

    def _bucket_or_all(self, bucket: str | None) -> str | None:
        return None if bucket is None and not self._bucket else self._bucket_or_own(bucket)


class ImgCacheClient(BlockingClient):
    """The blocking client of a cache; usable from any thread.

    It has the arguments, methods, results and errors of `AsyncImgCacheClient`. It can be called
    while an event loop runs, as in a spider's callback, and blocks that loop during the call.
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
            lambda: AsyncImgCacheClient(
                base_url, timeout, token=token, bucket=bucket, transport=transport
            ),
            reopens=transport is None,
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
        """Return the URL of an image for a browser; see `AsyncImgCacheClient.serve_url`."""
        return self._client.serve_url(content_hash, bucket=bucket)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _http_transport(*args: Any) -> Transport:
    # Imported here, because an embedded cache needs no HTTP.
    from imgcache_scrapy.client.http import HttpTransport  # noqa: PLC0415

    return HttpTransport(*args)
