"""HttpTransport: calls the REST API of a service over HTTP."""

# ruff: noqa: D102 - the methods are documented once, in AsyncImgCacheClient.

import asyncio
from datetime import datetime
from typing import Any

import httpx

from imgcache_scrapy.client.answers import Answer, newest_of_urls, with_distance
from imgcache_scrapy.client.fields import (
    batches_of_keys,
    capture_fields,
    form_of,
    without_none,
)
from imgcache_scrapy.core.concurrency import Limiter
from imgcache_scrapy.core.entry import Entry, content_hash_of
from imgcache_scrapy.core.errors import (
    InvalidRequestError,
    NotFoundError,
    ProtocolError,
    UnavailableError,
)
from imgcache_scrapy.core.keys import is_default_key
from imgcache_scrapy.core.limits import (
    MAX_IMAGE_BYTES,
    MAX_TEXT,
    MAX_URL_BYTES,
)
from imgcache_scrapy.core.pages import Page, all_pages_async
from imgcache_scrapy.core.response_info import MAX_HEADER_CHARACTERS, NO_RESPONSE, ResponseInfo
from imgcache_scrapy.core.urls import filename_of

_CONNECTIONS = 16
# For smaller images, the additional request would cost more than their bytes.
_MIN_CLAIMED_BYTES = 64 * 2**10
_BATCHES_UNSUPPORTED = (404, 405)
# Some servers and proxies accept only 8 KB in a request line, so longer keys are sent in a body.
_MAX_KEY_IN_QUERY = 4000
# The most bytes of an answer, so that no service can fill the memory. JSON writes a character in
# at most six bytes.
_MAX_ESCAPE = 6
_MAX_ENTRY = 2 * _MAX_ESCAPE * MAX_TEXT + _MAX_ESCAPE * MAX_HEADER_CHARACTERS + 2**14
_MAX_ANSWER = _MAX_ENTRY + 3 * _MAX_ESCAPE * MAX_URL_BYTES
_MAX_LIST = 2**26


class HttpTransport:
    """The transport to a service; its methods are documented in `AsyncImgCacheClient`.

    Args:
        base_url: `http(s)://host:port`, without a slash at the end.
        timeout: seconds for one call from the moment it has a connection; None for no limit.
        token: the service's bearer token.
        transport: an httpx transport to use instead.

    Attributes:
        supports_claims: whether `claim` may record captures; False once the service has shown that
            it has no such route.
    """

    def __init__(
        self,
        base_url: str,
        timeout: float | None,
        token: str | None,
        transport: httpx.AsyncBaseTransport | None,
    ) -> None:
        self._base = base_url
        self.supports_claims = True
        self._supports_batches = True
        self._supports_keys: bool | None = None
        self._asking = asyncio.Lock()
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
        url: str,
        data: bytes,
        client_name: str,
        *,
        key: str,
        bucket: str,
        lookup_time: datetime | None,
        filename: str | None,
        response: ResponseInfo,
    ) -> Entry:
        content_hash = await asyncio.to_thread(content_hash_of, data)
        is_large = len(data) >= _MIN_CLAIMED_BYTES
        is_plain = url == key and is_default_key(key) and not any(response)
        has_keys = not (is_plain and not is_large) and await self._has_keys()
        # Any other service compares the URLs that it stores.
        fields: dict[str, Any] = {"url": url, "key": key} if has_keys else {"url": key}
        fields |= capture_fields(
            client_name, bucket, lookup_time, response if has_keys else NO_RESPONSE
        )
        file = (filename or filename_of(url) or "image", data, "application/octet-stream")

        async def claim_or_upload() -> Entry:
            if is_large and has_keys:
                claim = fields | without_none(content_hash=content_hash, filename=filename)
                entry = await self._claim(claim)
                if entry is not None:
                    return entry
            answer = await self._call("POST", "/images", data=form_of(fields), files={"file": file})
            return answer.checked().stored_entry(key, content_hash)

        return await self._limiter.run(claim_or_upload)

    async def claim(
        self,
        url: str,
        content_hash: str,
        client_name: str,
        *,
        key: str,
        bucket: str,
        lookup_time: datetime | None,
        filename: str | None,
        response: ResponseInfo,
    ) -> Entry | None:
        fields = capture_fields(client_name, bucket, lookup_time, response)
        claim = {"url": url, "key": key, "content_hash": content_hash, **fields}
        claim |= without_none(filename=filename)
        return await self._limiter.run(lambda: self._claim(claim))

    async def get_bytes(
        self, content_hash: str, bucket: str | None, size: int | None = None
    ) -> bytes:
        # At least the size of an error answer.
        max_bytes = max(_MAX_ANSWER, MAX_IMAGE_BYTES if size is None else size)
        answer = await self._send(
            "GET",
            f"/images/{content_hash}",
            max_bytes=min(max_bytes, MAX_IMAGE_BYTES),
            params=without_none(bucket=bucket),
        )
        # The network can damage bytes; an embedded cache has already checked them.
        if await asyncio.to_thread(content_hash_of, answer.body) != content_hash:
            raise NotFoundError(f"the bytes of image {content_hash} are damaged")
        return answer.body

    async def get_meta(self, content_hash: str, bucket: str | None) -> Entry | None:
        route, query = f"/images/meta/{content_hash}", without_none(bucket=bucket)
        return await self._entry(route, query, content_hash=content_hash)

    async def lookup(self, key: str, bucket: str | None, accept: str | None = None) -> Entry | None:
        if len(key) > _MAX_KEY_IN_QUERY and self._supports_batches:
            return (await self.lookup_many([key], bucket, accept)).get(key)
        query = {"url": key, **without_none(bucket=bucket)}
        named = None if is_default_key(key) else key
        if (named or accept) and await self._has_keys():
            query |= without_none(key=named, accept=accept)
        return await self._entry("/images/lookup", query, key=key)

    async def lookup_many(
        self, keys: list[str], bucket: str | None, accept: str | None = None
    ) -> dict[str, Entry]:
        found: dict[str, Entry] = {}
        for batch in batches_of_keys(keys):
            found |= await self._lookup_batch(batch, bucket, accept)
        return found

    async def search(self, url_contains: str, bucket: str | None, limit: int | None) -> list[Entry]:
        query = {"url_contains": url_contains, **without_none(bucket=bucket)}
        found = await self._all_pages("/images/search", query, limit)
        # Some services find other texts as well, for example in other letter case.
        entries = (entry for entry in found if url_contains in entry["url"])
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
            **without_none(bucket=bucket),
        }
        found = await self._all_pages("/images/similar", query, limit)
        entries = (with_distance(entry, perceptual_hash) for entry in found)
        near = [entry for entry in entries if entry["distance"] <= max_hamming_distance]
        return sorted(near, key=lambda entry: entry["distance"])[:limit]

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

    async def _lookup_batch(
        self, keys: list[str], bucket: str | None, accept: str | None
    ) -> dict[str, Entry]:
        if self._supports_batches:
            body = {"urls": keys, **without_none(bucket=bucket)}
            named = {key: key for key in keys if not is_default_key(key)} or None
            if (named or accept) and await self._has_keys():
                body |= without_none(keys=named, accept=accept)
            # The answer has each key twice: before its entry, and in it. One entry may have URLs
            # of any length.
            max_bytes = len(keys) * _MAX_ENTRY + 2 * _MAX_ESCAPE * sum(map(len, keys))
            max_bytes += _MAX_ANSWER
            answer = await self._answer("POST", "/images/lookup", max_bytes=max_bytes, json=body)
            if answer.status not in _BATCHES_UNSUPPORTED:
                return answer.checked().entries_by_key(keys)
            self._supports_batches = False
        entries = await asyncio.gather(*(self.lookup(key, bucket, accept) for key in keys))
        return {key: entry for key, entry in zip(keys, entries, strict=True) if entry is not None}

    async def _claim(self, claim: dict[str, Any]) -> Entry | None:
        if not self.supports_claims:
            return None
        answer = await self._call("POST", "/images/claim", json=claim)
        if answer.lacks_route:
            self.supports_claims = False
            return None
        return answer.claimed_entry(claim["key"], claim["content_hash"])

    async def _has_keys(self) -> bool:
        """Return whether the service knows keys, and what the site said; others refuse both."""
        async with self._asking:
            if self._supports_keys is None:
                self._supports_keys = bool((await self.health()).get("keys"))
        return self._supports_keys

    async def _counts(self, route: str) -> dict[str, int]:
        try:
            return (await self._send("GET", route)).object()
        except NotFoundError as error:
            raise ProtocolError(
                f"this service has no {route}: it is another implementation or an older version"
            ) from error

    async def _entry(self, route: str, query: dict[str, Any], **asked: str) -> Entry | None:
        try:
            return (await self._send("GET", route, params=query)).entry(**asked)
        except NotFoundError:
            return None

    async def _all_pages(self, route: str, query: dict[str, Any], limit: int | None) -> list[Entry]:
        asked: list[dict[str, Any]] = []

        async def read(missing: int | None, after: dict[str, str] | None) -> Page:
            # Only the query of the next page's address is used: the token must go to no other host.
            params = query if after is None else after
            if params in asked:
                raise ProtocolError("the answer says that a page follows that was read before")
            asked.append(params)
            params = params | without_none(limit=missing)
            return (await self._send("GET", route, max_bytes=_MAX_LIST, params=params)).page()

        return await all_pages_async(read, limit)

    async def _send(self, method: str, route: str, **content: Any) -> Answer:
        return (await self._answer(method, route, **content)).checked()

    async def _answer(self, method: str, route: str, **content: Any) -> Answer:
        return await self._limiter.run(lambda: self._call(method, route, **content))

    async def _call(
        self, method: str, route: str, *, max_bytes: int = _MAX_ANSWER, **content: Any
    ) -> Answer:
        """Make a request; the caller has a slot of the limiter."""
        try:
            request = httpx.Request(method, self._base + route, headers=self._headers, **content)
        except (UnicodeError, httpx.InvalidURL) as error:
            raise InvalidRequestError(f"the request cannot be sent: {error}") from error
        return await self._exchange(request, max_bytes)

    async def _exchange(self, request: httpx.Request, max_bytes: int) -> Answer:
        try:
            response = await self._transport.handle_async_request(request)
            try:
                link = response.headers.get("Link", "")
                return Answer(response.status_code, await _body(response, max_bytes), link)
            finally:
                await response.aclose()
        except httpx.HTTPError as error:
            reason = str(error) or type(error).__name__
            raise UnavailableError(f"the cache cannot be reached: {reason}") from error


async def _body(response: httpx.Response, max_bytes: int) -> bytes:
    """Read the body of a response, and stop if it is too large.

    Raises:
        ProtocolError: it has more than `max_bytes`, or it is compressed.
    """
    # A few compressed bytes can become gigabytes. No request asks for them.
    if response.headers.get("Content-Encoding", "identity") != "identity":
        raise ProtocolError("the answer is compressed: is this the address of a cache?")
    parts, size = [], 0
    async for part in response.aiter_bytes():
        size += len(part)
        if size > max_bytes:
            raise ProtocolError(
                f"the answer has more than {max_bytes:,} bytes: is this the address of a cache?"
            )
        parts.append(part)
    return b"".join(parts)
