"""Read whole lists of a catalog, page by page."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from imgcache_scrapy.core.entry import Entry
from imgcache_scrapy.core.pages import ListPage
from imgcache_scrapy.engine.catalog.catalog import Catalog


def all_pages(read: Callable[[int | None, Any], ListPage[Any]], limit: int | None) -> list[Any]:
    """Read the pages of a list one after another.

    Args:
        read: reads a page; called with the number of missing entries, None for all, and with the
            position after the page before it.
        limit: number of entries after which no further page is read; None to read all.
    """
    entries: list[Any] = []
    page: ListPage[Any] = ListPage([])
    while limit is None or len(entries) < limit:
        page = read(None if limit is None else limit - len(entries), page.after)
        entries += page.entries
        if page.after is None:
            break
    return entries


def search(
    catalog: Catalog, part: str, bucket: str | None = None, limit: int | None = None
) -> list[Entry]:
    """Return the captures whose URL contains a text."""
    return all_pages(partial(catalog.search_page, part, bucket), limit)


def similar(
    catalog: Catalog,
    perceptual_hash: str,
    distance: int,
    bucket: str | None = None,
    limit: int | None = None,
) -> list[Entry]:
    """Return the images whose hash is near a given one."""
    return all_pages(partial(catalog.similar_page, perceptual_hash, distance, bucket), limit)


def history(
    catalog: Catalog, keys: Sequence[str], bucket: str | None = None, limit: int | None = None
) -> list[Entry]:
    """Return all captures of some keys."""
    return all_pages(partial(catalog.history_page, keys, bucket), limit)


def captures(
    catalog: Catalog, content_hash: str, bucket: str | None = None, limit: int | None = None
) -> list[Entry]:
    """Return all captures of an image."""
    return all_pages(partial(catalog.captures_page, content_hash, bucket), limit)
