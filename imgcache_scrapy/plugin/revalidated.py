"""RevalidatedUrls: remembers which URLs a crawl has asked the site for, so that it asks once."""

from collections.abc import Hashable

REMEMBERED_URLS = 20_000
"""Minimum number of URLs to remember, about 100 bytes each."""


class RevalidatedUrls:
    """Remembers the last URLs: at least `minimum`, at most twice as many.

    Args:
        minimum: minimum number of URLs to remember.
    """

    def __init__(self, minimum: int = REMEMBERED_URLS) -> None:
        self._minimum = minimum
        self._recent: dict[int, bool] = {}
        self._older: dict[int, bool] = {}

    def add(self, key: Hashable, *, is_stale: bool) -> None:
        """Remember that the site was asked for a URL.

        Args:
            key: what identifies the URL.
            is_stale: whether it gave no good image, so that the stale one was delivered.
        """
        if len(self._recent) >= self._minimum:
            self._recent, self._older = {}, self._recent
        self._recent[hash(key)] = is_stale

    def get(self, key: Hashable) -> bool | None:
        """Return `is_stale` of a URL; None if it is not remembered."""
        digest = hash(key)
        return self._recent.get(digest, self._older.get(digest))
