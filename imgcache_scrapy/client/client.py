"""The clients of a cache: `AsyncImgCacheClient`, and `ImgCacheClient`, its blocking form."""

import asyncio
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from os import PathLike
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote, urlencode

from imgcache_scrapy.client.blocking import BlockingClient, blocking
from imgcache_scrapy.client.fetching import FetchMethods
from imgcache_scrapy.client.listing import ListMethods
from imgcache_scrapy.client.lookups import LookupMethods
from imgcache_scrapy.client.refusals import RefusalMethods
from imgcache_scrapy.client.takedown import TakeDownMethods
from imgcache_scrapy.client.uses import UseMethods
from imgcache_scrapy.core.checks import (
    checked_client_name,
    checked_hash,
    checked_text,
    checked_time,
)
from imgcache_scrapy.core.entry import Entry
from imgcache_scrapy.core.errors import InvalidRequestError
from imgcache_scrapy.core.fetch_rules import DEFAULT_FETCH_RULES, FetchRules
from imgcache_scrapy.core.keys import cache_key
from imgcache_scrapy.core.lazy import lazy_property
from imgcache_scrapy.core.response_info import HeaderValue, ResponseInfo

if TYPE_CHECKING:
    import httpx


class AsyncImgCacheClient(
    FetchMethods, ListMethods, LookupMethods, RefusalMethods, TakeDownMethods, UseMethods
):
    """The async client of a cache; use it within one event loop.

    Args:
        base_url: `http(s)://host:port` for a service; `file:///folder` or a path for a cache
            that is embedded in this process.
        timeout: seconds for one call from the moment it has a connection; None for no limit.
        token: the service's bearer token.
        bucket: the bucket for calls that name none. If it is "", then calls that read look in all
            buckets, and `store` and `delete` use the bucket "".
        transport: an httpx transport to use instead, also in `sync`.
        key_of: computes the cache key of a URL for which a call names none.
        max_bytes: of an embedded cache: the size of all images together, in bytes. Before a store,
            the images go that were not used for the longest time, except for those used today.
        fetch_rules: how `fetch` decides what its arguments leave open.

    Attributes:
        transport: the connection to the cache; its methods do not check their arguments.

    Raises:
        ConfigurationError: the address, the timeout or the token is not valid, or the folder cannot
            be created.
    """

    async def store(
        self,
        url: str,
        file_bytes: bytes,
        client_name: str,
        lookup_time: datetime | None = None,
        filename: str | None = None,
        *,
        key: str | None = None,
        bucket: str | None = None,
        headers: Mapping[str, HeaderValue] | None = None,
        final_url: str | None = None,
        accept: str | None = None,
    ) -> Entry:
        """Store an image and the URL that it came from.

        Args:
            url: the image's URL.
            file_bytes: the bytes of the image, unchanged.
            client_name: name of the client that stores it.
            lookup_time: when it was fetched; default now. A time without an offset is UTC.
            filename: the original file name; default the last part of the URL's path.
            key: the cache key of the URL; default `cache_key(url)`.
            bucket: the bucket to store in.
            headers: the headers of the site's response; those of `KEPT_HEADERS` are kept.
            final_url: the URL that gave the image after redirects.
            accept: the header `Accept` of the request; kept if the response varies by it.

        Returns:
            The entry. Its `created` says whether the image is new; the URL is recorded either way.

        Raises:
            InvalidRequestError: there are no bytes, or an argument is not valid.
            TooLargeError: the image is larger than the cache accepts.
            BlockedError: the image is blocked.
        """
        if not isinstance(file_bytes, bytes):
            raise InvalidRequestError(f"an image must be bytes, not {type(file_bytes).__name__}")
        if not file_bytes:
            raise InvalidRequestError("an image must not be empty")
        its_url = self._image_url(url, key)
        return await self.transport.store(
            its_url.url,
            file_bytes,
            checked_client_name(client_name),
            key=its_url.key,
            bucket=self._bucket_or_own(bucket),
            lookup_time=checked_time(lookup_time),
            filename=None if filename is None else checked_text("a file name", filename),
            response=ResponseInfo.of(its_url.url, headers, final_url, accept),
        )

    async def claim(
        self,
        url: str,
        content_hash: str,
        client_name: str,
        lookup_time: datetime | None = None,
        filename: str | None = None,
        *,
        key: str | None = None,
        bucket: str | None = None,
        headers: Mapping[str, HeaderValue] | None = None,
        final_url: str | None = None,
        accept: str | None = None,
    ) -> Entry | None:
        """Record that a URL gave an image that the cache has, without sending the image.

        The image may be in any bucket. The other arguments are those of `store`.

        Args:
            url: the image's URL.
            content_hash: the hash of the image; see `content_hash_of`.
            client_name: name of the client that fetched the image.
            lookup_time: when it was fetched; default now.
            filename: the original file name.
            key: the cache key of the URL.
            bucket: the bucket of the new capture.
            headers: the headers of the site's response.
            final_url: the URL that gave the image after redirects.
            accept: the header `Accept` of the request.

        Returns:
            The entry, as from `store`. None if nothing was recorded, because the cache does not
            have the bytes, or they are damaged, or the service cannot do this: store the image.

        Raises:
            InvalidRequestError: an argument is not valid.
        """
        its_url = self._image_url(url, key)
        return await self.transport.claim(
            its_url.url,
            checked_hash(content_hash),
            checked_client_name(client_name),
            key=its_url.key,
            bucket=self._bucket_or_own(bucket),
            lookup_time=checked_time(lookup_time),
            filename=None if filename is None else checked_text("a file name", filename),
            response=ResponseInfo.of(its_url.url, headers, final_url, accept),
        )

    async def get_bytes(self, content_hash: str, *, bucket: str | None = None) -> bytes:
        """Read the bytes of an image and verify them against its hash.

        Raises:
            NotFoundError: the image is not in the bucket, or its bytes are missing or damaged.
        """
        its_hash = checked_hash(content_hash)
        return await self.transport.get_bytes(its_hash, self._bucket_or_all(bucket))

    def serve_url(
        self,
        content_hash: str,
        *,
        bucket: str | None = None,
        expires: datetime | timedelta | float | None = None,
    ) -> str:
        """Return the URL of an image for a browser.

        For an embedded cache, it works while `imgcache serve` runs at its default address.

        Args:
            content_hash: the hash of the image.
            bucket: as for the class.
            expires: how long the URL works without the token, as a time or in seconds, or until
                when. None: the URL needs the token where one is set.

        Raises:
            InvalidRequestError: `expires` is over, or not a time.
        """
        name, its_hash = self._bucket_or_all(bucket), checked_hash(content_hash)
        query = {"bucket": name} if name else {}
        if expires is not None and (token := self._options["token"]):
            # Imported here, because few clients need it.
            from imgcache_scrapy.core.signed_links import signed_query  # noqa: PLC0415

            query |= signed_query(token, its_hash, name or "", expires)
        path = f"{self._base}/serve/{its_hash}"
        return f"{path}?{urlencode(query, quote_via=quote, safe='')}" if query else path

    async def health(self) -> dict[str, Any]:
        """Check whether the cache works; return `{"status": "ok", …}`."""
        return await self.transport.health()

    @lazy_property
    def sync(self) -> "ImgCacheClient":
        """The blocking client of the same cache; it is closed together with this client."""
        return ImgCacheClient(*self._arguments, **self._options)

    async def aclose(self) -> None:
        """Close the connections; an embedded cache first finishes the calls that are running."""
        if "sync" in self.__dict__:
            await asyncio.to_thread(self.sync.close)
        if not self._is_closed:
            self._is_closed = True
            await self._close_fetcher()
            await self.transport.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


class ImgCacheClient(BlockingClient):
    """The blocking client of a cache; usable from any thread.

    It has the arguments, methods, results and errors of `AsyncImgCacheClient`. It can be called
    while an event loop runs, as in a spider's callback, and blocks that loop during the call.
    """

    _client: AsyncImgCacheClient

    def __init__(
        self,
        base_url: str | PathLike[str],
        timeout: float | None = 30.0,
        *,
        token: str | None = None,
        bucket: str = "",
        transport: "httpx.AsyncBaseTransport | None" = None,
        key_of: Callable[[str], str] = cache_key,
        max_bytes: int | None = None,
        fetch_rules: FetchRules = DEFAULT_FETCH_RULES,
    ) -> None:
        options: dict[str, Any] = {"token": token, "bucket": bucket, "transport": transport}
        options |= {"key_of": key_of, "max_bytes": max_bytes, "fetch_rules": fetch_rules}
        super().__init__(
            lambda: AsyncImgCacheClient(base_url, timeout, **options),
            reopens=transport is None,
        )

    store = blocking(AsyncImgCacheClient.store)
    claim = blocking(AsyncImgCacheClient.claim)
    fetch = blocking(AsyncImgCacheClient.fetch)
    get_bytes = blocking(AsyncImgCacheClient.get_bytes)
    get_meta = blocking(AsyncImgCacheClient.get_meta)
    lookup = blocking(AsyncImgCacheClient.lookup)
    lookup_many = blocking(AsyncImgCacheClient.lookup_many)
    history = blocking(AsyncImgCacheClient.history)
    captures = blocking(AsyncImgCacheClient.captures)
    search = blocking(AsyncImgCacheClient.search)
    similar = blocking(AsyncImgCacheClient.similar)
    list = blocking(AsyncImgCacheClient.list)
    count = blocking(AsyncImgCacheClient.count)
    delete = blocking(AsyncImgCacheClient.delete)
    delete_captures = blocking(AsyncImgCacheClient.delete_captures)
    audit = blocking(AsyncImgCacheClient.audit)
    block = blocking(AsyncImgCacheClient.block)
    unblock = blocking(AsyncImgCacheClient.unblock)
    blocked = blocking(AsyncImgCacheClient.blocked)
    suggest_blocked = blocking(AsyncImgCacheClient.suggest_blocked)
    failures = blocking(AsyncImgCacheClient.failures)
    uses = blocking(AsyncImgCacheClient.uses)
    used_on = blocking(AsyncImgCacheClient.used_on)
    list_uses = blocking(AsyncImgCacheClient.list_uses)
    record_uses = blocking(AsyncImgCacheClient.record_uses)
    health = blocking(AsyncImgCacheClient.health)
    stats = blocking(AsyncImgCacheClient.stats)
    buckets = blocking(AsyncImgCacheClient.buckets)

    def serve_url(
        self,
        content_hash: str,
        *,
        bucket: str | None = None,
        expires: datetime | timedelta | float | None = None,
    ) -> str:
        """Return the URL of an image for a browser; see `AsyncImgCacheClient.serve_url`."""
        return self._client.serve_url(content_hash, bucket=bucket, expires=expires)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
