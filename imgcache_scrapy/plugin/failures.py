"""FailuresField: the item field that lists the URLs that gave no image."""

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from itemadapter import ItemAdapter
from scrapy import Request

from imgcache_scrapy.plugin.item_requests import item_url
from imgcache_scrapy.plugin.outcome import ImageFailed


class FailuresField:
    """Writes the failures of an item's requests into the item, in the order of the requests.

    They are written as soon as they happen, so that the hook `item_completed` finds them.

    Args:
        item: the item.
        field: the name of the field; None to write nothing.
        put: puts a list into a field of an item.
    """

    def __init__(
        self, item: Any, field: str | None, put: Callable[[Any, str, list[Any]], None]
    ) -> None:
        self._item = item
        self._field = field
        self._put = put
        self._before: list[Any] = []
        self._failures: list[dict[str, Any] | None] = []

    def add(self, request: Request) -> Callable[[ImageFailed], None]:
        """Add the next request; return the function to call if it fails."""
        if self._field is None:
            return lambda _: None
        if not self._failures:
            self._before = ItemAdapter(self._item).get(self._field) or []
        place = len(self._failures)
        self._failures.append(None)
        self._write(self._field)
        return lambda failure: self._tell(place, request, failure)

    def close(self) -> None:
        """Release the item and its pipeline: tasks and timers may keep this object for longer."""
        self._item = self._field = None
        self._put = _put_nothing

    def _tell(self, place: int, request: Request, failure: ImageFailed) -> None:
        if self._field is None:
            return
        self._failures[place] = {
            "url": item_url(request),
            "reason": failure.reason,
            "http_status": failure.http_status,
        }
        self._write(self._field)

    def _write(self, field: str) -> None:
        self._put(self._item, field, [*self._before, *filter(None, self._failures)])


def _put_nothing(*_: object) -> None:
    pass


current_failures: ContextVar[FailuresField | None] = ContextVar("imgcache_failures", default=None)
"""The failures of the item that this task processes; None if a hook requests an image by itself."""
