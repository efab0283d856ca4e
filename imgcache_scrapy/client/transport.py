"""Transport: the interface between a client and a cache, over HTTP or in this process."""

# ruff: noqa: D102 - the methods are documented once, in AsyncImgCacheClient.

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, Protocol

from imgcache_scrapy.core.audit import AuditEntry
from imgcache_scrapy.core.blocked import BlockedImage, BlockedSource, Source
from imgcache_scrapy.core.entry import Entry
from imgcache_scrapy.core.failures import Failure, Found, SeenFailure
from imgcache_scrapy.core.filters import Filters
from imgcache_scrapy.core.pages import ListPage, Page
from imgcache_scrapy.core.response_info import ResponseInfo
from imgcache_scrapy.core.selection import Selection
from imgcache_scrapy.core.uses import NewUse, Use


class Transport(Protocol):
    """The calls of a client to a cache; the client has already checked the arguments.

    `AsyncImgCacheClient` has methods of the same names, which document what each call returns and
    raises. Here lookups have cache keys, and a bucket of None means all buckets.

    Attributes:
        supports_claims: whether `claim` may record captures; if it is False, `claim` returns None.
    """

    @property
    def supports_claims(self) -> bool: ...

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
    ) -> Entry: ...

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
    ) -> Entry | None: ...

    async def get_bytes(
        self, content_hash: str, bucket: str | None, size: int | None = None
    ) -> bytes:
        """Return the bytes; a transport over a network reads no more than `size`, if given."""
        ...

    async def get_meta(self, content_hash: str, bucket: str | None) -> Entry | None: ...

    async def lookup(
        self, key: str, bucket: str | None, accept: str | None = None
    ) -> Entry | None: ...

    async def lookup_many(
        self,
        keys: list[str],
        bucket: str | None,
        accept: str | None = None,
        urls: Collection[str] = (),
    ) -> Found:
        """Return the entries of keys; of URLs the failures in the bucket, and what is blocked."""
        ...

    async def history(
        self, keys: Sequence[str], bucket: str | None, limit: int | None
    ) -> list[Entry]: ...

    async def captures(
        self, content_hash: str, bucket: str | None, limit: int | None
    ) -> list[Entry]: ...

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

    async def delete(self, content_hash: str, bucket: str, actor: str = "") -> None: ...

    async def delete_captures(
        self,
        selection: Selection,
        *,
        actor: str = "",
        expected: int | None = None,
        dry_run: bool = False,
        block: bool = False,
    ) -> dict[str, int]: ...

    async def audit(self, limit: int | None) -> list[AuditEntry]: ...

    async def block(self, content_hash: str, reason: str, actor: str = "") -> BlockedImage: ...

    async def unblock(self, content_hash: str, actor: str = "") -> None: ...

    async def unblock_source(self, source: Source, actor: str = "") -> None: ...

    async def blocked_sources(self, limit: int | None) -> list[BlockedSource]: ...

    async def blocked(self, limit: int | None) -> list[BlockedImage]: ...

    async def suggest_blocked(self, bucket: str | None, limit: int | None) -> list[Entry]: ...

    async def remember_failures(self, failures: Sequence[SeenFailure], bucket: str) -> None:
        """Remember failures of sites; a service that cannot do this is not asked again."""
        ...

    async def failures(
        self, host: str | None, since: datetime | None, bucket: str | None, limit: int | None
    ) -> list[Failure]: ...

    async def record_uses(self, uses: Sequence[NewUse]) -> int: ...

    async def uses_page(
        self,
        content_hashes: Sequence[str] | None,
        page_url: str | None,
        bucket: str | None,
        limit: int | None,
        after: str | None,
    ) -> ListPage[Use]:
        """Return some uses, newest first, after a position; see `Catalog.uses_page`."""
        ...

    async def health(self) -> dict[str, Any]: ...

    async def stats(self) -> dict[str, int]: ...

    async def buckets(self) -> dict[str, int]: ...

    async def list_page(self, filters: Filters, limit: int | None, after: str | None) -> Page:
        """Return some of the captures that meet filters, newest first, after a position."""
        ...

    async def count(self, filters: Filters) -> dict[str, int]: ...

    async def stats_by(self, by: str) -> dict[str, dict[str, int]]: ...

    async def aclose(self) -> None: ...
