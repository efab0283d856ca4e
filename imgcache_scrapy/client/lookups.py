"""LookupMethods: the methods of a client that return entries."""

import asyncio
from collections.abc import Iterable

from imgcache_scrapy.client.base import ClientBase
from imgcache_scrapy.core.checks import (
    checked_distance,
    checked_hash,
    checked_limit,
    checked_perceptual_hash,
    checked_text,
)
from imgcache_scrapy.core.entry import Entry
from imgcache_scrapy.core.errors import InvalidRequestError
from imgcache_scrapy.core.forks import no_fork
from imgcache_scrapy.core.freshness import is_fresh
from imgcache_scrapy.core.image_url import keys_of
from imgcache_scrapy.core.urls import request_urls


class LookupMethods(ClientBase):
    """The methods of `AsyncImgCacheClient` that return entries."""

    async def get_meta(self, content_hash: str, *, bucket: str | None = None) -> Entry | None:
        """Return the newest capture of an image in the bucket; None if there is none."""
        its_hash = checked_hash(content_hash)
        return await self.transport.get_meta(its_hash, self._bucket_or_all(bucket))

    async def lookup(
        self,
        url: str,
        *,
        key: str | None = None,
        bucket: str | None = None,
        max_age: float | None = None,
        accept: str | None = None,
    ) -> Entry | None:
        """Return the newest capture of a URL.

        Args:
            url: the URL.
            key: the cache key of the URL; default `cache_key(url)`.
            bucket: the bucket to look in.
            max_age: maximum age of the capture in seconds; None for no limit.
            accept: the header `Accept` of a request: captures of responses that depend on another
                value are left out. None for all captures.

        Returns:
            The entry; None if there is none, or if it is too old.
        """
        its_url, where = self._image_url(url, key), self._bucket_or_all(bucket)
        if len(its_url.keys) == 1:
            entry = await self.transport.lookup(its_url.key, where, accept)
        else:
            found = await self.transport.lookup_many(list(its_url.keys), where, accept)
            entry = its_url.newest(found.entries)
        return entry if entry is not None and is_fresh(entry, max_age) else None

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
        image_urls = {url: self._image_url(each, None) for url, each in request_urls(urls).items()}
        keys, where = keys_of(image_urls.values()), self._bucket_or_all(bucket)
        found = (await self.transport.lookup_many(keys, where)).entries if keys else {}
        entries = {url: each.newest(found) for url, each in image_urls.items()}
        return {url: entry for url, entry in entries.items() if entry is not None}

    async def history(
        self,
        url: str,
        *,
        key: str | None = None,
        bucket: str | None = None,
        limit: int | None = None,
    ) -> list[Entry]:
        """Return all captures of a URL, newest first: which images it has given, and when.

        Captures whose image is damaged now are among them.

        Args:
            url: the URL.
            key: the cache key of the URL; default `cache_key(url)`.
            bucket: the bucket to look in.
            limit: maximum number of entries.

        Raises:
            ProtocolError: the service is another implementation, which has no histories.
        """
        keys, where = self._image_url(url, key).keys, self._bucket_or_all(bucket)
        return await self.transport.history(keys, where, checked_limit(limit))

    async def captures(
        self, content_hash: str, *, bucket: str | None = None, limit: int | None = None
    ) -> list[Entry]:
        """Return all captures of an image, newest first: which URLs have given it, and when.

        Those of a damaged image are returned, too.

        Raises:
            ProtocolError: the service is another implementation, which has no histories.
        """
        its_hash, where = checked_hash(content_hash), self._bucket_or_all(bucket)
        return await self.transport.captures(its_hash, where, checked_limit(limit))

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
        perceptual_hash: str | None = None,
        max_hamming_distance: int = 4,
        *,
        file_bytes: bytes | None = None,
        bucket: str | None = None,
        limit: int | None = None,
    ) -> list[Entry]:
        """Find images that look similar, by their perceptual hash.

        Args:
            perceptual_hash: 16 hex digits.
            file_bytes: a picture, instead of its hash; it is not stored.
            max_hamming_distance: maximum number of the 64 bits that differ.
            bucket: the bucket to look in.
            limit: maximum number of entries.

        Returns:
            One entry per image with its `distance`, nearest first. They are only suggestions.

        Raises:
            InvalidRequestError: the hash or the distance is not valid, or the picture cannot be
                decoded.
        """
        if file_bytes is not None:
            if perceptual_hash is not None or not isinstance(file_bytes, bytes):
                raise InvalidRequestError("give a perceptual hash, or the bytes of a picture")
            perceptual_hash = await _perceptual_hash(file_bytes)
        return await self.transport.similar(
            checked_perceptual_hash(perceptual_hash),
            checked_distance(max_hamming_distance),
            self._bucket_or_all(bucket),
            checked_limit(limit),
        )


async def _perceptual_hash(picture: bytes) -> str:
    # Imported here, because only this call decodes a picture in the process of a client.
    with no_fork:
        from imgcache_scrapy.engine.decoding.one_picture import (  # noqa: PLC0415
            perceptual_hash_of,
        )

    found = await asyncio.to_thread(perceptual_hash_of, picture)
    if found is None:
        raise InvalidRequestError("the picture cannot be decoded, so nothing can be compared")
    return found
