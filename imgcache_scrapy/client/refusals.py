"""RefusalMethods: the methods of a client for blocked images and remembered failures."""

import asyncio
from contextlib import suppress
from datetime import datetime

from imgcache_scrapy.client.base import ClientBase
from imgcache_scrapy.client.takedown import actor
from imgcache_scrapy.core.blocked import BlockedImage, BlockedSource, Source
from imgcache_scrapy.core.checks import (
    checked_hash,
    checked_key,
    checked_limit,
    checked_text,
    checked_time,
)
from imgcache_scrapy.core.entry import Entry, content_hash_of
from imgcache_scrapy.core.errors import InvalidRequestError
from imgcache_scrapy.core.failures import Failure
from imgcache_scrapy.core.hosts import stored_host
from imgcache_scrapy.core.urls import host_of, request_url


class RefusalMethods(ClientBase):
    """The methods of `AsyncImgCacheClient` for blocked images and failures."""

    async def block(
        self,
        content_hash: str | None = None,
        *,
        file_bytes: bytes | None = None,
        reason: str = "",
    ) -> BlockedImage:
        """Block an image in all buckets, whether the cache has it or not.

        The cache does not take the image any more, and a crawl rejects it. If the cache has it, it
        is not deleted.

        Args:
            content_hash: the hash of the image.
            file_bytes: the bytes of the image, instead of its hash; they are not stored.
            reason: why it is blocked; replaces the reason of an image that is blocked already.

        Returns:
            The blocked image, with `content_hash`, `reason` and `created_at`.

        Raises:
            InvalidRequestError: there is neither a valid hash nor bytes, or there are both.
        """
        if file_bytes is not None:
            if content_hash is not None or not isinstance(file_bytes, bytes) or not file_bytes:
                raise InvalidRequestError("give a content hash, or bytes that are not empty")
            content_hash = await asyncio.to_thread(content_hash_of, file_bytes)
        its_hash = checked_hash(content_hash)
        return await self.transport.block(its_hash, checked_text("a reason", reason), actor())

    async def unblock(
        self,
        content_hash: str | None = None,
        *,
        host: str | None = None,
        url: str | None = None,
        key: str | None = None,
    ) -> None:
        """Allow an image, a host or a URL again.

        Args:
            content_hash: the hash of the image.
            host: the host, instead of an image.
            url: the URL, instead of an image.
            key: the cache key of the URL, as `blocked` has it, instead of the URL.

        Raises:
            NotFoundError: it is not blocked.
            InvalidRequestError: there is not exactly one of them.
        """
        if sum(each is not None for each in (content_hash, host, url, key)) != 1:
            raise InvalidRequestError("give a content hash, a host or a URL")
        if content_hash is not None:
            await self.transport.unblock(checked_hash(content_hash), actor())
        elif host is not None:
            source = Source("host", stored_host(checked_text("a host", host)))
            await self.transport.unblock_source(source, actor())
        else:
            its_key = checked_key(key) if url is None else self._image_url(url, None).key
            await self.transport.unblock_source(Source("url", its_key), actor())

    async def blocked(self, *, limit: int | None = None) -> list[BlockedImage | BlockedSource]:
        """Return the blocked images, hosts and URLs, newest first.

        Returns:
            Each has `content_hash`, `reason` and `created_at`. The `content_hash` of a host or a
            URL is None; it has `host` and `url`, of which one is None.
        """
        most = checked_limit(limit)
        images = await self.transport.blocked(most)
        sources = await self.transport.blocked_sources(most)
        found: list[BlockedImage | BlockedSource] = [*images, *sources]
        # Stable, so that images of the same moment keep their order.
        return sorted(found, key=lambda each: each["created_at"], reverse=True)[:most]

    async def suggest_blocked(
        self, *, bucket: str | None = None, limit: int | None = None
    ) -> list[Entry]:
        """Find images that may be placeholders, because many unrelated URLs led to them.

        Two URLs are unrelated if their paths differ; another host or query does not count. Of the
        newest million captures, the 100 images with the most captures are examined.

        Args:
            bucket: the bucket to look in.
            limit: maximum number of entries.

        Returns:
            One entry per image whose URLs have 10 or more different paths, with the numbers of
            `paths` and `hosts` (of up to 1,000 URLs), the one with the most paths first.
        """
        where = self._bucket_or_all(bucket)
        return await self.transport.suggest_blocked(where, checked_limit(limit))

    async def failures(
        self,
        *,
        host: str | None = None,
        since: datetime | str | None = None,
        bucket: str | None = None,
        limit: int | None = None,
    ) -> list[Failure]:
        """Return the failures of sites that crawls remember, newest first.

        Args:
            host: only those of this host, also if it has a port or is a URL; None for all hosts.
            since: only those from this time on; a time without an offset is UTC.
            bucket: the bucket to look in.
            limit: maximum number of failures.
        """
        return await self.transport.failures(
            None if host is None else _host_in(checked_text("a host", host)),
            checked_time(since),
            self._bucket_or_all(bucket),
            checked_limit(limit),
        )


def _host_in(text: str) -> str:
    """Return the host that a user means, as the cache has it."""
    with suppress(InvalidRequestError):
        return host_of(request_url(text if "://" in text else f"http://{text}/"))
    return text.lower()
