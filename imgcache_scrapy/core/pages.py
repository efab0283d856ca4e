"""Pages of long lists: each answer has a bounded number of entries, and says what comes after."""

from collections.abc import Awaitable, Callable
from typing import Any, Generic, NamedTuple, TypeVar

from imgcache_scrapy.core.entry import Entry

T = TypeVar("T")


class ListPage(NamedTuple, Generic[T]):
    """A part of a list.

    Attributes:
        entries: at most `MAX_PAGE_ENTRIES` entries; there may be fewer, also if more follow.
        after: the position after the last entry, to ask for the next page; None on the last page.
    """

    entries: list[T]
    after: Any = None


class ItemList(list[T]):
    """A list in its order.

    Attributes:
        after: the position after the last one, to ask for those that follow; None if none do.
    """

    after: str | None = None

    @classmethod
    def of(cls, page: ListPage[T]) -> "ItemList[T]":
        """Return the list of what a page has."""
        found = ItemList(page.entries)
        found.after = page.after
        return found


EntryList = ItemList[Entry]
"""Entries in their order, with the position after the last one."""


Page = ListPage[Entry]
"""A part of a list of entries of images."""


async def all_pages(
    read: Callable[[int | None, Any], Awaitable[ListPage[T]]], limit: int | None
) -> list[T]:
    """Read the pages of a list one after another; see `pages_after`."""
    return (await pages_after(read, limit)).entries


async def pages_after(
    read: Callable[[int | None, Any], Awaitable[ListPage[T]]], limit: int | None, after: Any = None
) -> ListPage[T]:
    """Read the pages of a list that follow a position, one after another.

    Args:
        read: reads a page; called with the number of missing entries, None for all, and with the
            position after the page before it.
        limit: number of entries after which no further page is read; None to read all.
        after: the position; None for the beginning of the list.

    Returns:
        All entries that were read, more than `limit` if a page had more than was asked for; and
        the position after them.
    """
    entries: list[T] = []
    while limit is None or len(entries) < limit:
        page = await read(None if limit is None else limit - len(entries), after)
        entries += page.entries
        after = page.after
        if after is None:
            break
    return ListPage(entries, after)
