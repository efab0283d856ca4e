"""ItemResults: what the requests of an item gave, for the settings that need all of it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import Any

from itemadapter import ItemAdapter
from scrapy import Request

from imgcache_scrapy.plugin.item_requests import item_url
from imgcache_scrapy.plugin.outcome import ImageFailed
from imgcache_scrapy.plugin.settings import Settings


class ItemResults:
    """Collects the results of an item, and writes its failures and paths into it.

    A failure is written as soon as it happens, the paths when no request is under way, so that the
    hook `item_completed` finds both.

    Args:
        item: the item.
        settings: name the fields for the failures and the paths.
        put: puts a list into a field of an item.
    """

    def __init__(
        self, item: Any, settings: Settings, put: Callable[[Any, str, list[Any]], None]
    ) -> None:
        self._item = item
        self._failures_field = settings.failures_field
        self._paths_field = settings.paths_field
        self._put: Callable[[Any, str, list[Any]], None] | None = put
        self._earlier_failures: list[Any] = []
        self._failures: list[dict[str, Any] | None] = []
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
        if not self._failures and self._failures_field is not None:
            self._earlier_failures = ItemAdapter(self._item).get(self._failures_field) or []
        self._failures.append(None)
        self._paths.append(None)
        self._found.append(None)
        self._pending += 1
        self._write_failures()
        return len(self._found) - 1

    def fail(self, place: int, request: Request, failure: ImageFailed) -> None:
        """Note why a request failed."""
        self._failures[place] = {
            "url": item_url(request),
            "reason": failure.reason,
            "http_status": failure.http_status,
        }
        self._write_failures()

    def end(self, place: int, request: Request, result: Any) -> None:
        """Note that a request has ended, and its result; None if it failed."""
        if isinstance(result, dict) and isinstance(result.get("path"), str):
            self._paths[place] = result["path"]
            self._found[place] = (request, result)
        self._pending -= 1
        if not self._pending:
            self._write(self._item, self._paths_field, self.paths)

    def complete(self, item: Any, result_field: str) -> None:
        """Write an empty list into an item without requests, if it has the field of results."""
        if not self._paths and ItemAdapter.is_item(item) and result_field in ItemAdapter(item):
            self._write(item, self._paths_field, [])

    def close(self) -> None:
        """Release the item and its pipeline: tasks and timers may keep this object for longer."""
        self._item = self._put = None

    def _write_failures(self) -> None:
        failures = [*self._earlier_failures, *filter(None, self._failures)]
        self._write(self._item, self._failures_field, failures)

    def _write(self, item: Any, field: str | None, value: list[Any]) -> None:
        if field is not None and self._put is not None:
            self._put(item, field, value)


@dataclass
class Collected:
    """What a request gives.

    Attributes:
        fail: call it with the failure if the request fails.
        result: the result; None if the request has failed.
    """

    fail: Callable[[ImageFailed], None]
    result: Any = None


@contextmanager
def collecting(request: Request, begin: Callable[[int], None]) -> Iterator[Collected]:
    """Process a request of the current item in a block, which collects what the request gives.

    Args:
        request: the request.
        begin: called with the place of the request in the item, from 1.
    """
    results = current_results.get()
    if results is None:
        yield Collected(lambda _: None)
        return
    place = results.add()
    begin(place + 1)
    collected = Collected(partial(results.fail, place, request))
    try:
        yield collected
    finally:
        results.end(place, request, collected.result)


current_results: ContextVar[ItemResults | None] = ContextVar("imgcache_results", default=None)
"""The results of the item that this task processes; None if a hook requests an image by itself."""
