"""ItemResults: the results of an item's images, for the settings that need all of them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from itemadapter import ItemAdapter
from scrapy import Request


class ItemResults:
    """Collects the results of an item, and writes their paths into it.

    They are written when no request is under way, so that the hook `item_completed` finds them.

    Args:
        item: the item.
        field: the name of the field for the paths; None to write nothing.
        put: puts a list into a field of an item.
    """

    def __init__(
        self, item: Any, field: str | None, put: Callable[[Any, str, list[Any]], None]
    ) -> None:
        self._item = item
        self._field = field
        self._put = put
        self._paths: list[str | None] = []
        self._found: list[tuple[Request, dict[str, Any]] | None] = []
        self._pending = 0

    @property
    def paths(self) -> list[str]:
        """The paths of the item's images, in the order of the requests."""
        return [path for path in self._paths if path is not None]

    @property
    def found(self) -> list[tuple[Request, dict[str, Any]] | None]:
        """The requests with their results, in their order; None for those that failed."""
        return self._found

    def add(self) -> int:
        """Add the next request; return its place, from 0."""
        self._paths.append(None)
        self._found.append(None)
        self._pending += 1
        return len(self._paths) - 1

    def put(self, place: int, request: Request, result: Any = None) -> None:
        """Note the result of a request; None if it failed."""
        if isinstance(result, dict) and isinstance(result.get("path"), str):
            self._paths[place] = result["path"]
            self._found[place] = (request, result)
        self._pending -= 1
        if not self._pending and self._field is not None:
            self._put(self._item, self._field, self.paths)

    def complete(self, item: Any, result_field: str) -> None:
        """Write an empty list into an item without requests, if it has the field of results."""
        is_open = self._field is not None and not self._paths
        if is_open and ItemAdapter.is_item(item) and result_field in ItemAdapter(item):
            self._put(item, str(self._field), [])

    def close(self) -> None:
        """Release the item and its pipeline: tasks and timers may keep this object for longer."""
        self._item = self._field = None
        self._put = _put_nothing
        self._found = []


def _put_nothing(*_: object) -> None:
    pass


@contextmanager
def collecting(request: Request, begin: Callable[[int], None]) -> Iterator[Callable[[Any], None]]:
    """Process a request of the current item in a block; call what it gives with the result.

    Args:
        request: the request.
        begin: called with the place of the request in the item, from 1.
    """
    results = current_results.get()
    if results is None:
        yield _put_nothing
        return
    place = results.add()
    begin(place + 1)
    result: list[Any] = []
    try:
        yield result.append
    finally:
        results.put(place, request, *result)


current_results: ContextVar[ItemResults | None] = ContextVar("imgcache_results", default=None)
"""The results of the item that this task processes; None if a hook requests an image by itself."""
