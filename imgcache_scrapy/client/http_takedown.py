"""HttpTakeDowns: the calls for takedowns and the audit list, which only our services have."""

# ruff: noqa: D102 - the methods are documented once, in AsyncImgCacheClient.

from typing import Any

from imgcache_scrapy.client.connection import NO_ROUTE, Connection
from imgcache_scrapy.client.http_lists import counts_of, query_of
from imgcache_scrapy.client.http_refusals import acting, explaining_not_found, lacks
from imgcache_scrapy.client.lists import read_audit, read_blocked_source
from imgcache_scrapy.core.audit import AuditEntry
from imgcache_scrapy.core.blocked import BlockedSource, Source
from imgcache_scrapy.core.errors import CountChangedError, not_blocked
from imgcache_scrapy.core.selection import Selection

_CAPTURES, _SOURCES, _AUDIT = "/captures", "/blocked/sources", "/audit"
# Stores may change the number between the dry run and the takedown.
_ATTEMPTS = 10


class HttpTakeDowns(Connection):
    """The methods of `HttpTransport` for takedowns."""

    async def delete_captures(
        self,
        selection: Selection,
        *,
        actor: str = "",
        expected: int | None = None,
        dry_run: bool = False,
        block: bool = False,
    ) -> dict[str, int]:
        query = _query_of(selection)
        counting = {**query, "dry_run": "true"}
        if dry_run:
            return await self._delete_captures(counting, actor)
        query |= {"block": "true"} if block else {}
        for left in reversed(range(_ATTEMPTS)):
            count = expected
            if count is None:
                count = (await self._delete_captures(counting, actor)).get("captures", 0)
            try:
                return await self._delete_captures({**query, "expect": str(count)}, actor)
            except CountChangedError:
                if expected is not None or not left:
                    raise
        raise AssertionError("unreachable")

    async def _delete_captures(self, query: dict[str, Any], actor: str) -> dict[str, int]:
        headers = acting(actor)
        answer = await self.answer("DELETE", _CAPTURES, params=query, headers=headers)
        if answer.status in NO_ROUTE:
            raise lacks(_CAPTURES)
        return counts_of(answer.checked().object())

    async def audit(self, limit: int | None) -> list[AuditEntry]:
        with explaining_not_found(_AUDIT):
            return await self.all_pages(_AUDIT, {}, limit, read_audit)

    async def blocked_sources(self, limit: int | None) -> list[BlockedSource]:
        answer = await self.answer("GET", _SOURCES, params={"limit": 1})
        if answer.status in NO_ROUTE:  # An older version blocks only images.
            return []
        return await self.all_pages(_SOURCES, {}, limit, read_blocked_source)

    async def unblock_source(self, source: Source, actor: str = "") -> None:
        name = "host" if source.kind == "host" else "key"
        headers = acting(actor)
        answer = await self.answer("DELETE", _SOURCES, params={name: source.value}, headers=headers)
        if answer.status in NO_ROUTE:
            raise lacks(_SOURCES)
        if not counts_of(answer.checked().object()).get("unblocked"):
            raise not_blocked(f"the {source.kind} {source.value}")


def _query_of(selection: Selection) -> dict[str, Any]:
    """Return the parameters of a request for a selection."""
    query: dict[str, Any] = query_of(selection.filters)
    url = selection.url
    if url is not None:
        # Also those that the service would compute: another client may compute others.
        query |= {"url": url.url, "key": list(url.keys)}
    return query or {"all_captures": "true"}
