"""HttpUses: the calls for the uses of images, which only our services have."""

# ruff: noqa: D102 - the methods are documented once, in AsyncImgCacheClient.

from collections.abc import Sequence

from imgcache_scrapy.client.connection import MAX_LIST, NO_ROUTE, Connection
from imgcache_scrapy.client.fields import without_none
from imgcache_scrapy.client.http_lists import counts_of
from imgcache_scrapy.client.http_refusals import lacks
from imgcache_scrapy.client.lists import next_position, read_use
from imgcache_scrapy.core.batches import batches_by_size
from imgcache_scrapy.core.limits import MAX_BATCH_BYTES, MAX_BATCH_USES
from imgcache_scrapy.core.pages import ListPage
from imgcache_scrapy.core.uses import NewUse, Use

_USES, _OF_IMAGE = "/uses", "/images/uses"
# Of the texts in a request. A character takes one byte in JSON, rarely up to six.
_MAX_CHARACTERS = MAX_BATCH_BYTES // 8


class HttpUses(Connection):
    """The methods of `HttpTransport` for uses."""

    async def record_uses(self, uses: Sequence[NewUse]) -> int:
        recorded = 0
        for batch in batches_by_size(uses, _characters_of, _MAX_CHARACTERS, MAX_BATCH_USES):
            body = {"uses": [use.fields() for use in batch]}
            answer = await self.answer("POST", _USES, json=body)
            if answer.status in NO_ROUTE:
                raise lacks(_USES)
            recorded += counts_of(answer.checked().object()).get("recorded", 0)
        return recorded

    async def uses_page(
        self,
        content_hashes: Sequence[str] | None,
        page_url: str | None,
        bucket: str | None,
        limit: int | None,
        after: str | None,
    ) -> ListPage[Use]:
        route, hashes = _USES, content_hashes
        if content_hashes is not None and len(content_hashes) == 1 and page_url is None:
            route, hashes = f"{_OF_IMAGE}/{content_hashes[0]}", None
        query = without_none(
            page_url=page_url, content_hash=hashes, bucket=bucket, limit=limit, after=after
        )
        answer = await self.answer("GET", route, max_bytes=MAX_LIST, params=query)
        if answer.lacks_route or answer.status in NO_ROUTE:
            raise lacks(route)
        uses, following = answer.checked().page(read_use)
        return ListPage(uses, next_position(following, after))


def _characters_of(use: NewUse) -> int:
    return use.characters
