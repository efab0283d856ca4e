"""UseMethods: the methods of a client for the uses of images: by pages, items, spiders and jobs."""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from imgcache_scrapy.client.base import ClientBase
from imgcache_scrapy.core.batches import batches
from imgcache_scrapy.core.checks import checked_hash, checked_limit, checked_position
from imgcache_scrapy.core.errors import InvalidRequestError
from imgcache_scrapy.core.limits import MAX_BATCH_USES, USE_POSITION_PATTERN
from imgcache_scrapy.core.pages import ItemList, pages_after
from imgcache_scrapy.core.uses import NewUse, Use, page_of


class UseMethods(ClientBase):
    """The methods of `AsyncImgCacheClient` for uses."""

    async def uses(
        self,
        content_hash: str,
        *,
        bucket: str | None = None,
        limit: int | None = None,
        after: str | None = None,
    ) -> ItemList[Use]:
        """Return what used an image, as far as it was recorded, the newest use first.

        A use is newer than another one if it was recorded first after it.

        Args:
            content_hash: the hash of the image.
            bucket: the bucket of its captures.
            limit: maximum number of uses; None for all, which may need much memory.
            after: the `after` of the list before, to go on where it ends.

        Returns:
            The uses; see `Use`. Their attribute `after` is None if no further ones follow.
        """
        return await self._uses([checked_hash(content_hash)], None, bucket, limit, after)

    async def used_on(
        self,
        page_url: str,
        *,
        bucket: str | None = None,
        limit: int | None = None,
        after: str | None = None,
    ) -> ItemList[Use]:
        """Return which images a page used, as far as it was recorded, the newest use first.

        Args:
            page_url: the URL of the page; its fragment does not count.
            bucket: the bucket of the captures.
            limit: maximum number of uses; None for all, which may need much memory.
            after: the `after` of the list before, to go on where it ends.

        Returns:
            The uses; see `Use`. Their attribute `after` is None if no further ones follow.
        """
        return await self._uses(None, page_of(page_url), bucket, limit, after)

    async def list_uses(
        self, *, bucket: str | None = None, limit: int | None = None, after: str | None = None
    ) -> ItemList[Use]:
        """Return all uses that were recorded, the newest use first; `record_uses` takes them.

        Args:
            bucket: the bucket of the captures.
            limit: maximum number of uses; None for all, which may need much memory.
            after: the `after` of the list before, to go on where it ends.

        Returns:
            The uses. Their attribute `after` is None if no further ones follow.
        """
        return await self._uses(None, None, bucket, limit, after)

    async def record_uses(self, uses: Iterable[Mapping[str, Any]]) -> int:
        """Record what used images that are in the cache.

        A use with the same image, bucket, key of the URL, page, item, spider and position as one
        that is known renews it: the URL, the job, the texts, `meta` and `used_at` are replaced.

        Args:
            uses: the values of each use, of the fields of `Use`. `content_hash` and `url` must be
                there; what is not known is missing or None. `meta` has at most 4,096 characters as
                JSON, each other text at most 4,096 characters.

        Returns:
            The number of uses whose image is in the cache; the others are not recorded.

        Raises:
            InvalidRequestError: a value is not valid; the uses before it may be recorded.
            ReadOnlyError: the cache can only be read.
        """
        recorded = 0
        for batch in batches(uses, MAX_BATCH_USES):
            recorded += await self.transport.record_uses(list(map(self._new_use, batch)))
        return recorded

    async def _uses(
        self,
        hashes: Sequence[str] | None,
        page_url: str | None,
        bucket: str | None,
        limit: int | None,
        after: str | None,
    ) -> ItemList[Use]:
        read = partial(self.transport.uses_page, hashes, page_url, self._bucket_or_all(bucket))
        position = checked_position(after, USE_POSITION_PATTERN)
        return ItemList.of(await pages_after(read, checked_limit(limit), position))

    def _new_use(self, values: Mapping[str, Any]) -> NewUse:
        if not isinstance(values, Mapping):
            raise InvalidRequestError(f"a use is a dict, not {type(values).__name__}")
        url, bucket = values.get("url"), values.get("bucket")
        if not isinstance(url, str):
            raise InvalidRequestError(f"the URL of an image must be a string, not {url!r:.80}")
        its_bucket = self._bucket_or_own(bucket)
        return NewUse.of(self._image_url(url, values.get("key")), {**values, "bucket": its_bucket})
