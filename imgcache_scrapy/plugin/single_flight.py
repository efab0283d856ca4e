"""SingleFlight: does the work for one key once, and gives all callers the same result."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Hashable, Iterable
from functools import partial
from typing import Any, Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class SingleFlight(Generic[K, V]):
    """Runs one task per key; callers that come later, or meanwhile, get its result.

    Args:
        max_results: how many results are remembered, those used last.
    """

    def __init__(self, *, max_results: int) -> None:
        self._max_results = max_results
        self._results: OrderedDict[K, V] = OrderedDict()
        self._running: dict[K, asyncio.Task[V]] = {}

    async def do_all(
        self, jobs: Iterable[tuple[K, Callable[[], Coroutine[Any, Any, V]]]]
    ) -> list[V]:
        """Return the results of jobs, and start those that were not done yet at the same time.

        Args:
            jobs: the key of each job, and the function that does it, in a task of its own. It
                should return its failures: what it raises is raised here, and not remembered.
        """
        found: list[V | asyncio.Task[V]] = []
        for key, start in jobs:
            if key in self._results:
                self._results.move_to_end(key)
                found.append(self._results[key])
            else:
                found.append(self._running.get(key) or self._start(key, start))
        if running := [each for each in found if isinstance(each, asyncio.Task)]:
            await asyncio.wait(running)
        return [each.result() if isinstance(each, asyncio.Task) else each for each in found]

    def _start(self, key: K, start: Callable[[], Coroutine[Any, Any, V]]) -> "asyncio.Task[V]":
        task = self._running[key] = asyncio.create_task(start())
        task.add_done_callback(partial(self._end, key))
        return task

    def _end(self, key: K, task: "asyncio.Task[V]") -> None:
        del self._running[key]
        if task.cancelled() or task.exception() is not None:
            return
        self._results[key] = task.result()
        if len(self._results) > self._max_results:
            self._results.popitem(last=False)
