"""HttpTransport: calls the REST API of a service over HTTP."""

# ruff: noqa: D102 - the methods are documented once, in AsyncImgCacheClient.

import asyncio
import functools
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

from imgcache_scrapy.client.answers import (
    entries_by_key,
    newest_first,
    newest_of_urls,
    with_distance,
)
from imgcache_scrapy.client.claims import Claims
from imgcache_scrapy.client.connection import (
    MAX_ANSWER,
    MAX_ENTRY,
    MAX_ESCAPE,
    NO_ROUTE,
)
from imgcache_scrapy.client.entries import entry_of
from imgcache_scrapy.client.fields import (
    capture_fields,
    form_of,
    without_none,
)
from imgcache_scrapy.client.http_lists import HttpLists
from imgcache_scrapy.client.http_refusals import HttpRefusals, acting, explaining_not_found, lacks
from imgcache_scrapy.client.http_takedown import HttpTakeDowns
from imgcache_scrapy.client.http_uses import HttpUses
from imgcache_scrapy.client.key_support import KeySupport
from imgcache_scrapy.client.lists import read_failures, read_keys
from imgcache_scrapy.core.batches import batches_by_size
from imgcache_scrapy.core.entry import Entry, content_hash_of
from imgcache_scrapy.core.errors import InvalidRequestError, NotFoundError
from imgcache_scrapy.core.failures import Failure, Found
from imgcache_scrapy.core.keys import is_default_key
from imgcache_scrapy.core.limits import MAX_BATCH_BYTES, MAX_BATCH_URLS, MAX_IMAGE_BYTES
from imgcache_scrapy.core.response_info import NO_RESPONSE, ResponseInfo
from imgcache_scrapy.core.urls import filename_of

# For smaller images, the additional request would cost more than their bytes.
_MIN_CLAIMED_BYTES = 64 * 2**10
# A character of a URL takes one byte in JSON, rarely up to six.
_BATCH_CHARACTERS = MAX_BATCH_BYTES // 2
# Some servers and proxies accept only 8 KB in a request line, so longer keys are sent in a body.
_MAX_KEY_IN_QUERY = 4000


class HttpTransport(HttpLists, HttpRefusals, HttpTakeDowns, HttpUses):
    """The transport to a service; its methods are documented in `AsyncImgCacheClient`.

    Args:
        connection: the arguments of `Connection`.
    """

    def __init__(self, *connection: Any) -> None:
        super().__init__(*connection)
        self._supports_batches = True
        self._claims = Claims(self, self.seconds)
        self._keys = KeySupport(self)

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
        has_keys = not (is_plain and not is_large) and await self._keys.exists()
        # Any other service compares the URLs that it stores.
        fields: dict[str, Any] = {"url": url, "key": key} if has_keys else {"url": key}
        fields |= capture_fields(
            client_name, bucket, lookup_time, response if has_keys else NO_RESPONSE
        )
        file = (filename or filename_of(url) or "image", data, "application/octet-stream")

        async def claim_or_upload() -> Entry:
            if is_large and has_keys:
                claim = fields | without_none(content_hash=content_hash, filename=filename)
                entry = await self._claims.ask(claim)
                if entry is not None:
                    return entry
            answer = await self.call("POST", "/images", data=form_of(fields), files={"file": file})
            # At a wrong address, every lookup is a miss, and only this shows it.
            with explaining_not_found("/images"):
                return answer.checked().stored_entry(key, content_hash)

        return await self.limited_upload(claim_or_upload)

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
        return await self.limited(lambda: self._claims.ask_alone(claim))

    @property
    def supports_claims(self) -> bool:
        """Whether `claim` may record captures; False once the service has shown that it cannot."""
        return self._claims.are_supported

    async def get_bytes(
        self, content_hash: str, bucket: str | None, size: int | None = None
    ) -> bytes:
        # At least the size of an error answer.
        max_bytes = max(MAX_ANSWER, MAX_IMAGE_BYTES if size is None else size)
        answer = await self.send(
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
            return (await self.lookup_many([key], bucket, accept)).entries.get(key)
        query = {"url": key, **without_none(bucket=bucket)}
        named = None if is_default_key(key) else key
        if (named or accept is not None) and await self._keys.exists():
            query |= without_none(key=named, accept=accept)
        return await self._entry("/images/lookup", query, key=key)

    async def lookup_many(
        self,
        keys: list[str],
        bucket: str | None,
        accept: str | None = None,
        urls: Collection[str] = (),
    ) -> Found:
        entries: dict[str, Entry] = {}
        failures: dict[str, Failure] = {}
        blocked: frozenset[str] = frozenset()
        # Failures of keys are told anyway.
        further = set(urls) - set(keys)
        for batch in batches_by_size([*keys, *further], len, _BATCH_CHARACTERS, MAX_BATCH_URLS):
            asked = [key for key in batch if key not in further]
            found = await self._lookup_batch(asked, bucket, accept, further.intersection(batch))
            entries |= found.entries
            failures |= found.failures
            blocked |= found.blocked
        return Found(entries, failures, blocked)

    async def history(
        self, keys: Sequence[str], bucket: str | None, limit: int | None
    ) -> list[Entry]:
        found: list[Entry] = []
        for key in keys:
            named = None if is_default_key(key) else key
            query = {"url": key, **without_none(key=named, bucket=bucket)}
            found += await self._captures("/images/history", query, limit, key=key)
        return newest_first(found)[:limit]

    async def captures(
        self, content_hash: str, bucket: str | None, limit: int | None
    ) -> list[Entry]:
        route, query = f"/images/captures/{content_hash}", without_none(bucket=bucket)
        return (await self._captures(route, query, limit, content_hash=content_hash))[:limit]

    async def search(self, url_contains: str, bucket: str | None, limit: int | None) -> list[Entry]:
        query = {"url_contains": url_contains, **without_none(bucket=bucket)}
        found = await self.all_pages("/images/search", query, limit, entry_of)
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
        found = await self.all_pages("/images/similar", query, limit, entry_of)
        entries = (with_distance(entry, perceptual_hash) for entry in found)
        near = [entry for entry in entries if entry["distance"] <= max_hamming_distance]
        return sorted(near, key=lambda entry: entry["distance"])[:limit]

    async def delete(self, content_hash: str, bucket: str, actor: str = "") -> None:
        route, query = f"/images/{content_hash}", {"bucket": bucket}
        await self.send("DELETE", route, params=query, headers=acting(actor))

    async def health(self) -> dict[str, Any]:
        return (await self.send("GET", "/health")).object()

    async def _lookup_batch(
        self, keys: list[str], bucket: str | None, accept: str | None, urls: Collection[str]
    ) -> Found:
        if self._supports_batches:
            body = {"urls": keys, **without_none(bucket=bucket)}
            named = {key: key for key in keys if not is_default_key(key)} or None
            if (named or accept is not None) and await self._keys.exists():
                body |= without_none(keys=named, accept=accept)
            if urls and await self._keys.exists():
                body["failures_of"] = list(urls)
            # The answer has each key up to three times: before its entry, in it, and if it is
            # blocked. One entry may have URLs of any length.
            asked = [*keys, *urls]
            max_bytes = len(asked) * MAX_ENTRY + 3 * MAX_ESCAPE * sum(map(len, asked))
            max_bytes += MAX_ANSWER
            answer = await self.answer("POST", "/images/lookup", max_bytes=max_bytes, json=body)
            if answer.status not in NO_ROUTE:
                found = answer.checked().object()
                failures = read_failures(found.get("failures"), asked)
                blocked = read_keys(found.get("blocked"), asked)
                return Found(entries_by_key(found, keys), failures, blocked)
            self._supports_batches = False
        entries = await asyncio.gather(*(self.lookup(key, bucket, accept) for key in keys))
        found_keys = zip(keys, entries, strict=True)
        return Found({key: entry for key, entry in found_keys if entry is not None})

    async def _captures(
        self, route: str, query: dict[str, Any], limit: int | None, **asked: str
    ) -> list[Entry]:
        try:
            read = functools.partial(entry_of, **asked)
            return await self.all_pages(route, query, limit, read)
        except (NotFoundError, InvalidRequestError) as error:
            # Other services take the last part of the path for a hash.
            if await self._keys.exists():
                raise
            raise lacks(route) from error

    async def _entry(self, route: str, query: dict[str, Any], **asked: str) -> Entry | None:
        try:
            return (await self.send("GET", route, params=query)).entry(**asked)
        except NotFoundError:
            return None
