"""ImageUrl: the URL of an image together with its cache key."""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import NamedTuple, Self

from imgcache_scrapy.core.checks import checked_key
from imgcache_scrapy.core.entry import Entry
from imgcache_scrapy.core.keys import cache_key, without_user
from imgcache_scrapy.core.urls import request_url


class ImageUrl(NamedTuple):
    """A URL and its cache key.

    Attributes:
        url: the URL as it is requested, without user and password.
        key: what the cache compares.
        keys: the keys to look up: `key`, and the URL itself where it differs, because versions
            without keys stored that. A key that the caller named has no such older spelling.
    """

    url: str
    key: str
    keys: tuple[str, ...]

    @classmethod
    def of(
        cls, url: str, key: str | None = None, compute_key: Callable[[str], str] = cache_key
    ) -> Self:
        """Create an image URL from any spelling of a URL.

        Args:
            url: the URL.
            key: the key that the caller wants; None to compute it.
            compute_key: computes the key of a URL.

        Raises:
            InvalidRequestError: the URL or the key is not valid.
        """
        requested = without_user(request_url(url))
        if key is not None:
            return cls(requested, checked_key(key), (key,))
        key = compute_key(requested)
        return cls(requested, key, (key,) if key == requested else (key, requested))

    def newest(self, found: Mapping[str, Entry]) -> Entry | None:
        """Return the newest entry of this URL's keys.

        Args:
            found: entries by key.
        """
        if len(self.keys) == 1:
            return found.get(self.key)
        entries = [found[key] for key in self.keys if key in found]
        if len(entries) > 1:
            return max(entries, key=lambda entry: datetime.fromisoformat(entry["lookup_time"]))
        return entries[0] if entries else None


def keys_of(urls: Iterable[ImageUrl]) -> list[str]:
    """Return the distinct keys to look up for some URLs."""
    return list(dict.fromkeys(key for url in urls for key in url.keys))
