"""UseNotes: notes which item used which images, for the pipelines of a crawl."""

import os
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from weakref import ref

from itemadapter import ItemAdapter
from scrapy import Request, signals

from imgcache_scrapy.core.checks import cleaned
from imgcache_scrapy.core.errors import InvalidRequestError
from imgcache_scrapy.core.image_url import ImageUrl
from imgcache_scrapy.core.lazy import lazy_property
from imgcache_scrapy.core.uses import NewUse
from imgcache_scrapy.plugin.item_requests import item_url
from imgcache_scrapy.plugin.outcome import ImageFailed
from imgcache_scrapy.plugin.provenance import MAX_LABEL, ItemUse, UseFields, page_in, text_of
from imgcache_scrapy.plugin.session import Session

if TYPE_CHECKING:
    from scrapy.crawler import Crawler

# Of scrapyd, and of Scrapy Cloud.
_JOB_VARIABLES = ("SCRAPY_JOB", "SHUB_JOBKEY")
_LOCAL = "uptodate"

Result = tuple[Request, dict[str, Any]]
"""A request of an item, and its result."""


class UseNotes:
    """Notes the uses of one pipeline; the client of the crawl records them in the background.

    Args:
        crawler: the crawler.
        fields: the fields of items that say what is recorded.
        image_url: returns the URL of a request of the pipeline with its key.
    """

    def __init__(
        self, crawler: "Crawler", fields: UseFields, image_url: Callable[[Request], ImageUrl]
    ) -> None:
        self._session = Session.of(crawler)
        self._crawler = ref(crawler)
        self._fields = fields
        self._image_url = image_url
        self._has_failed = False
        self._missing: set[tuple[str, ...]] | None = None
        crawler.signals.connect(self._warn_of_missing_fields, signals.spider_closed)

    def note(self, item: Any, results: Sequence[Result | None]) -> None:
        """Note the images of an item.

        Args:
            item: the item.
            results: what its requests gave, in their order; None for those that failed.
        """
        try:
            uses = self._uses(item, results)
        except Exception:
            # A bug in the class of an item must not cost it its images.
            if not self._has_failed:
                self._has_failed = True
                self._session.log.exception("The use of images by %s is not recorded", type(item))
            return
        self._session.uses.add(uses)

    def _uses(self, item: Any, results: Sequence[Result | None]) -> list[NewUse]:
        found = [(place, *each) for place, each in enumerate(results, 1) if each is not None]
        if not found:
            return []
        self._look_for_fields(item)
        its_use = ItemUse.of(item, self._fields)
        uses = (self._use(its_use, *each) for each in found)
        return [use for use in uses if use is not None]

    def _use(
        self, item: ItemUse, position: int, request: Request, result: dict[str, Any]
    ) -> NewUse | None:
        content_hash = result.get("content_hash")
        if content_hash is None and result.get("status") != _LOCAL:
            return None
        try:
            url = self._image_url(request)
        except (InvalidRequestError, ImageFailed):
            return None
        its_url = item_url(request)
        return NewUse(
            # A local file is looked up when the use is recorded.
            content_hash or "",
            url.url,
            result.get("key") or url.key,
            result.get("bucket") or self._session.settings.bucket,
            item.page_url or _referer(request),
            item.item,
            self._spider,
            self._job,
            position,
            text_of(item.alt, position, its_url),
            text_of(item.caption, position, its_url),
            item.meta,
        )

    def _look_for_fields(self, item: Any) -> None:
        missing = self._fields.named() if self._missing is None else self._missing
        if missing:
            names = set(ItemAdapter(item))
            missing = {group for group in missing if names.isdisjoint(group)}
        self._missing = missing

    def _warn_of_missing_fields(self) -> None:
        for group in sorted(self._missing or ()):
            self._session.log.warning(
                "IMGCACHE_PROVENANCE names the field %s, which no item had", " or ".join(group)
            )

    @lazy_property
    def _spider(self) -> str:
        crawler = self._crawler()
        name = "" if crawler is None or crawler.spider is None else crawler.spider.name
        return cleaned(name, MAX_LABEL)

    @lazy_property
    def _job(self) -> str:
        return job_of(self._crawler())


def job_of(crawler: "Crawler | None") -> str:
    """Return what identifies the job of a crawl: as its scheduler says, else JOBDIR, else now."""
    named = next(filter(None, map(os.environ.get, _JOB_VARIABLES)), None)
    folder = None if crawler is None else crawler.settings.get("JOBDIR")
    found = named or folder or datetime.now(UTC).isoformat(timespec="seconds")
    return cleaned(str(found), MAX_LABEL)


def _referer(request: Request) -> str | None:
    referer = request.headers.get("Referer")
    return None if referer is None else page_in([referer.decode("latin-1")])
