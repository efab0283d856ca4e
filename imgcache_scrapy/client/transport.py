"""Transport: what a client needs of a cache, over HTTP or in this process."""

# ruff: noqa: D102 - the calls are documented once, at AsyncImgCacheClient.

from datetime import datetime
from typing import Any, Protocol

from imgcache_scrapy.core.entry import Entry


class Transport(Protocol):
    """The calls of a client, with arguments that the client has checked.

    What each call returns and raises is documented at the method of the same name of
    `AsyncImgCacheClient`. URLs are cache keys; a bucket of None means all buckets.
    """

    async def store(
        self,
        key: str,
        data: bytes,
        client_name: str,
        *,
        bucket: str,
        lookup_time: datetime | None,
        filename: str | None,
    ) -> Entry: ...

    async def get_bytes(self, content_hash: str, bucket: str) -> bytes: ...

    async def get_meta(self, content_hash: str, bucket: str) -> Entry | None: ...

    async def lookup(self, key: str, bucket: str | None) -> Entry | None: ...

    async def lookup_many(self, keys: list[str], bucket: str | None) -> dict[str, Entry]: ...

    async def search(
        self, url_contains: str, bucket: str | None, limit: int | None
    ) -> list[Entry]: ...

    async def similar(
        self,
        perceptual_hash: str,
        max_hamming_distance: int,
        bucket: str | None,
        limit: int | None,
    ) -> list[Entry]: ...

    async def delete(self, content_hash: str, bucket: str) -> None: ...

    async def health(self) -> dict[str, Any]: ...

    async def stats(self) -> dict[str, int]: ...

    async def buckets(self) -> dict[str, int]: ...

    async def aclose(self) -> None: ...
