"""RecentKeys and RecentResults: remember the last ones only, so that a long crawl stays small."""

from collections import Counter, OrderedDict
from collections.abc import Hashable, Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

V = TypeVar("V")

REMEMBERED_KEYS = 20_000
"""Minimum number of keys of a crawl to remember, about 100 bytes each."""


class RecentKeys(Generic[V]):
    """Remembers the last keys, each with a value: at least `minimum`, at most twice as many.

    Args:
        minimum: minimum number of keys to remember.
    """

    def __init__(self, *, minimum: int) -> None:
        self._minimum = minimum
        self._recent: dict[int, V] = {}
        self._older: dict[int, V] = {}

    def add(self, key: Hashable, value: V) -> bool:
        """Remember a key and its value.

        Returns:
            Whether the key is new; a forgotten key is new again.
        """
        digest = hash(key)
        for known in (self._recent, self._older):
            if digest in known:
                known[digest] = value
                return False
        if len(self._recent) >= self._minimum:
            self._recent, self._older = {}, self._recent
        self._recent[digest] = value
        return True

    def get(self, key: Hashable) -> V | None:
        """Return the value of a key; None if it is not remembered."""
        digest = hash(key)
        return self._recent.get(digest, self._older.get(digest))


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
