"""HttpTransport: calls the REST API of a service over HTTP."""

# ruff: noqa: D102 - the methods are documented once, in AsyncImgCacheClient.

import asyncio
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import httpx

from imgcache_scrapy.client.answers import Answer, newest_of_urls, with_distance
from imgcache_scrapy.core.concurrency import Limiter
from imgcache_scrapy.core.entry import Entry, content_hash_of
from imgcache_scrapy.core.errors import (
    InvalidRequestError,
    NotFoundError,
    ProtocolError,
    UnavailableError,
)
from imgcache_scrapy.core.limits import MAX_BATCH_BYTES, MAX_BATCH_URLS
from imgcache_scrapy.core.urls import filename_of

_CONNECTIONS = 16
# A character of a URL takes one byte in JSON, rarely up to six.
_BATCH_CHARACTERS = MAX_BATCH_BYTES // 2
_BATCHES_UNSUPPORTED = (404, 405)
# Some servers and proxies accept only 8 KB in a request line, so longer keys are sent in a body.
_MAX_KEY_IN_QUERY = 4000


class HttpTransport:
    """The transport to a service; its methods are documented in `AsyncImgCacheClient`.

    Args:
        base_url: `http(s)://host:port`, without a slash at the end.
        timeout: seconds for one call from the moment it has a connection; None for no limit.
        token: the service's bearer token.
        transport: an httpx transport to use instead.
    """

    def __init__(
        self,
        base_url: str,
        timeout: float | None,
        token: str | None,
        transport: httpx.AsyncBaseTransport | None,
    ) -> None:
        self._base = base_url
        self._supports_batches = True
        self._limiter = Limiter(_CONNECTIONS, timeout)
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        # Only a transport, not a whole httpx client: it follows no redirects, uses no proxies from
        # the environment, and creates no reference cycles that keep bodies in memory.
        self._transport = transport or httpx.AsyncHTTPTransport(
            # Loading the certificates takes 40 ms, so load them only for https.
            verify=self._base.startswith("https:"),
            trust_env=False,
            limits=httpx.Limits(max_keepalive_connections=_CONNECTIONS),
        )

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
        form = {"url": key, "client_name": client_name, "bucket": bucket}
        if lookup_time is not None:
            form["lookup_time"] = lookup_time.isoformat()
        file = (filename or filename_of(key) or "image", data, "application/octet-stream")
        return (await self._send("POST", "/images", data=form, files={"file": file})).stored_entry()

    async def get_bytes(self, content_hash: str, bucket: str | None) -> bytes:
        query = _without_none(bucket=bucket)
        answer = await self._send("GET", f"/images/{content_hash}", params=query)
        # The network can damage bytes; an embedded cache has already checked them.
        if await asyncio.to_thread(content_hash_of, answer.body) != content_hash:
            raise NotFoundError(f"the bytes of image {content_hash} are damaged")
        return answer.body

    async def get_meta(self, content_hash: str, bucket: str | None) -> Entry | None:
        return await self._entry(f"/images/meta/{content_hash}", _without_none(bucket=bucket))

    async def lookup(self, key: str, bucket: str | None) -> Entry | None:
        if len(key) > _MAX_KEY_IN_QUERY and self._supports_batches:
            return (await self.lookup_many([key], bucket)).get(key)
        return await self._entry("/images/lookup", {"url": key, **_without_none(bucket=bucket)})

    async def lookup_many(self, keys: list[str], bucket: str | None) -> dict[str, Entry]:
        found: dict[str, Entry] = {}
        for batch in _batches(keys):
            found |= await self._lookup_batch(batch, bucket)
        return found

    async def search(self, url_contains: str, bucket: str | None, limit: int | None) -> list[Entry]:
        query = {"url_contains": url_contains, **_without_none(bucket=bucket, limit=limit)}
        entries = (await self._send("GET", "/images/search", params=query)).entries()
        return newest_of_urls(entries)[:limit]

    async def similar(
        self,
        perceptual_hash: str,
        max_hamming_distance: int,
        bucket: str | None,
        limit: int | None,
    ) -> list[Entry]:
        query = {
            "perceptual_hash": perceptual_hash,
            "max_hamming_distance": max_hamming_distance,
            **_without_none(bucket=bucket, limit=limit),
        }
        found = (await self._send("GET", "/images/similar", params=query)).entries()
        entries = [with_distance(entry, perceptual_hash) for entry in found]
        return sorted(entries, key=lambda entry: entry["distance"])[:limit]

    async def delete(self, content_hash: str, bucket: str) -> None:
        await self._send("DELETE", f"/images/{content_hash}", params={"bucket": bucket})

    async def health(self) -> dict[str, Any]:
        return (await self._send("GET", "/health")).object()

    async def stats(self) -> dict[str, int]:
        return await self._counts("/stats")

    async def buckets(self) -> dict[str, int]:
        return await self._counts("/buckets")

    async def aclose(self) -> None:
        self._limiter.close()
        await self._transport.aclose()

    async def _lookup_batch(self, keys: list[str], bucket: str | None) -> dict[str, Entry]:
        if self._supports_batches:
            body = {"urls": keys, **_without_none(bucket=bucket)}
            answer = await self._answer("POST", "/images/lookup", json=body)
            if answer.status not in _BATCHES_UNSUPPORTED:
                return answer.checked().entries_by_url()
            self._supports_batches = False
        entries = await asyncio.gather(*(self.lookup(key, bucket) for key in keys))
        return {key: entry for key, entry in zip(keys, entries, strict=True) if entry is not None}

    async def _counts(self, route: str) -> dict[str, int]:
        try:
            return (await self._send("GET", route)).object()
        except NotFoundError as error:
            raise ProtocolError(
                f"this service has no {route}: it is another implementation or an older version"
            ) from error

    async def _entry(self, route: str, query: dict[str, Any]) -> Entry | None:
        try:
            return (await self._send("GET", route, params=query)).entry()
        except NotFoundError:
            return None

    async def _send(self, method: str, route: str, **content: Any) -> Answer:
        return (await self._answer(method, route, **content)).checked()

    async def _answer(self, method: str, route: str, **content: Any) -> Answer:
        try:
            request = httpx.Request(method, self._base + route, headers=self._headers, **content)
        except (UnicodeError, httpx.InvalidURL) as error:
            raise InvalidRequestError(f"the request cannot be sent: {error}") from error
        return await self._limiter.run(lambda: self._exchange(request))

    async def _exchange(self, request: httpx.Request) -> Answer:
        try:
            response = await self._transport.handle_async_request(request)
            try:
                return Answer(response.status_code, await response.aread())
            finally:
                await response.aclose()
        except httpx.HTTPError as error:
            reason = str(error) or type(error).__name__
            raise UnavailableError(f"the cache cannot be reached: {reason}") from error


def _batches(keys: list[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    size = 0
    for key in keys:
        if len(batch) == MAX_BATCH_URLS or size + len(key) > _BATCH_CHARACTERS:
            yield batch
            batch, size = [], 0
        batch.append(key)
        size += len(key)
    yield batch


def _without_none(**options: Any) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}
