"""AsyncTakeDowns: the coroutine methods of a cache that take down, and those of its audit list."""

from imgcache_scrapy.core.audit import AuditEntry
from imgcache_scrapy.core.blocked import BlockedSource, Source
from imgcache_scrapy.core.errors import not_blocked
from imgcache_scrapy.core.pages import all_pages
from imgcache_scrapy.core.selection import Selection
from imgcache_scrapy.engine.catalog.catalog import Catalog
from imgcache_scrapy.engine.takedown import TakeDown
from imgcache_scrapy.engine.threads import CacheThreads, awaited_query


class AsyncTakeDowns(CacheThreads):
    """The methods of `AsyncImageCache` for takedowns."""

    audit_page = awaited_query(Catalog.audit_page)
    blocked_sources_page = awaited_query(Catalog.blocked_sources_page)

    async def delete_captures(
        self,
        selection: Selection,
        *,
        actor: str = "",
        expected: int | None = None,
        dry_run: bool = False,
        block: bool = False,
    ) -> dict[str, int]:
        """Delete captures; see `TakeDown`. Each step is a call of its own, with its own time."""
        takedown = TakeDown(selection, actor, expected=expected, dry_run=dry_run, block=block)
        threads = self._scanners if dry_run else self._writers
        creates = block and not dry_run
        while await self._limited(lambda: self._run(threads, takedown.step, creates=creates)):
            pass
        return takedown.counts._asdict()

    async def audit(self, limit: int | None = None) -> list[AuditEntry]:
        """Return the acts in the audit list, newest first."""
        return await all_pages(self.audit_page, limit)

    async def blocked_sources(self, limit: int | None = None) -> list[BlockedSource]:
        """Return the blocked hosts and URLs, newest first."""
        return await all_pages(self.blocked_sources_page, limit)

    async def unblock_source(self, source: Source, actor: str = "") -> None:
        """Allow a host or a URL again.

        Raises:
            NotFoundError: it is not blocked.
        """
        was_blocked = await self._limited(
            lambda: self._run(
                self._writers, lambda cache: cache.catalog.unblock_source(source, actor)
            )
        )
        if not was_blocked:
            raise not_blocked(f"the {source.kind} {source.value}")
