"""ListMethods: the methods of a client that list and count what a cache has."""

from functools import partial
from typing import Any, Unpack

from imgcache_scrapy.client.base import ClientBase
from imgcache_scrapy.core.checks import checked_limit, checked_position
from imgcache_scrapy.core.errors import InvalidRequestError
from imgcache_scrapy.core.filters import GROUPS, Filters, checked_filters
from imgcache_scrapy.core.limits import SEARCH_POSITION_PATTERN
from imgcache_scrapy.core.pages import EntryList, pages_after


class ListMethods(ClientBase):
    """The methods of `AsyncImgCacheClient` for lists and counts."""

    async def list(
        self, *, limit: int | None = None, after: str | None = None, **filters: Unpack[Filters]
    ) -> EntryList:
        """List the captures that meet all filters, newest first.

        Captures of damaged images are among them, and have `damaged: True`.

        Args:
            limit: maximum number of entries; None for all, which may need much memory.
            after: the `after` of the list before, to go on where it ends.
            filters: the conditions; see `Filters`.

        Returns:
            The entries. Their attribute `after` is None if no further ones follow.

        Raises:
            InvalidRequestError: there is no such filter, or a value is not valid.
        """
        read = partial(self.transport.list_page, self._filters(filters))
        position = checked_position(after, SEARCH_POSITION_PATTERN)
        return EntryList.of(await pages_after(read, checked_limit(limit), position))

    async def count(self, **filters: Unpack[Filters]) -> dict[str, int]:
        """Count what `list` would list.

        Returns:
            The number of `captures`, and of the `images` and `bytes` that they share.
        """
        return await self.transport.count(self._filters(filters))

    async def stats(self, by: str | None = None) -> dict[str, Any]:
        """Count what the cache has.

        Args:
            by: None for the whole cache; else `host`, `bucket`, `client`, `type`, or `month` of the
                lookup time.

        Returns:
            The numbers of `images`, `captures`, `bytes` and `damaged` images. With `by`, the
            numbers of `captures`, `images` and `bytes` of each group, for the 1,000 groups with
            the most bytes; an image counts in each group that has a capture of it.

        Raises:
            InvalidRequestError: `by` is something else.
        """
        if by is None:
            return await self.transport.stats()
        if by not in GROUPS:
            raise InvalidRequestError(f"by is one of {', '.join(GROUPS)}, not {by!r:.80}")
        return await self.transport.stats_by(by)

    async def buckets(self) -> dict[str, int]:
        """Return the buckets in alphabetical order, each with its number of captures."""
        return await self.transport.buckets()

    def _filters(self, filters: Filters) -> Filters:
        """Check filters; the bucket of the client is that of a call that names none."""
        given = {name: each for name, each in filters.items() if each is not None}
        return checked_filters({"bucket": self._bucket or None, **given})
