"""HttpLists: the calls for lists and counts, which only our services have."""

# ruff: noqa: D102 - the methods are documented once, in AsyncImgCacheClient.

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from imgcache_scrapy.client.connection import MAX_LIST, NO_ROUTE, Connection
from imgcache_scrapy.client.entries import entry_of, is_count, json_object
from imgcache_scrapy.client.http_refusals import explaining_not_found, lacks
from imgcache_scrapy.client.lists import next_position
from imgcache_scrapy.core.errors import ProtocolError
from imgcache_scrapy.core.filters import Filters
from imgcache_scrapy.core.pages import Page

_IMAGES, _COUNT, _STATS = "/images", "/images/count", "/stats"


class HttpLists(Connection):
    """The methods of `HttpTransport` for lists and counts."""

    async def list_page(self, filters: Filters, limit: int | None, after: str | None) -> Page:
        query = query_of(filters, limit=limit, after=after)
        answer = await self.answer("GET", _IMAGES, max_bytes=MAX_LIST, params=query)
        if answer.status in NO_ROUTE:
            raise lacks(_IMAGES)
        entries, following = answer.checked().page(entry_of)
        return Page(entries, next_position(following, after))

    async def count(self, filters: Filters) -> dict[str, int]:
        return await self._counts(_COUNT, **query_of(filters))

    async def stats(self) -> dict[str, int]:
        return await self._counts(_STATS)

    async def stats_by(self, by: str) -> dict[str, dict[str, int]]:
        with explaining_not_found(_STATS):
            answer = await self.send("GET", _STATS, max_bytes=MAX_LIST, params={"by": by})
        return {name: counts_of(json_object(each)) for name, each in answer.object().items()}

    async def buckets(self) -> dict[str, int]:
        return await self._counts("/buckets")

    async def _counts(self, route: str, **query: str) -> dict[str, int]:
        with explaining_not_found(route):
            return counts_of((await self.send("GET", route, params=query)).object())


def query_of(filters: Mapping[str, Any], **more: Any) -> dict[str, str]:
    """Return the parameters of a request for filters; those of None are left out."""
    return {
        name: each.isoformat() if isinstance(each, datetime) else str(each)
        for name, each in {**filters, **more}.items()
        if each is not None
    }


def counts_of(body: dict[str, Any]) -> dict[str, int]:
    """Check numbers by their names.

    Raises:
        ProtocolError: a value is no number.
    """
    if not all(map(is_count, body.values())):
        raise ProtocolError("the answer should have numbers: is this the address of a cache?")
    return body
