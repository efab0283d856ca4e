"""RecentResults: decides which results a pipeline forgets, so that a long crawl stays small."""

from collections import Counter, OrderedDict
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any


class RecentResults:
    """Keeps the last results in dictionaries that Scrapy would fill for ever.

    A result that somebody waits for is never forgotten: Scrapy reads it after an `await`.

    Args:
        max_results: maximum number of results that nobody waits for; the ones that were used
            longest ago are forgotten first.
    """

    def __init__(self, *, max_results: int) -> None:
        self._max_results = max_results
        self._users: Counter[bytes] = Counter()
        self._idle: OrderedDict[bytes, None] = OrderedDict()

    @contextmanager
    def use(self, key: bytes, *results: MutableMapping[bytes, Any]) -> Iterator[None]:
        """Keep the result of this key during a block, and forget another one after it.

        Args:
            key: the key of the result.
            results: the dictionaries from which the oldest result is removed.
        """
        self._idle.pop(key, None)
        self._users[key] += 1
        try:
            yield
        finally:
            self._users[key] -= 1
            if not self._users[key]:
                del self._users[key]
                self._idle[key] = None
            if len(self._idle) > self._max_results:
                oldest, _ = self._idle.popitem(last=False)
                for each in results:
                    each.pop(oldest, None)
