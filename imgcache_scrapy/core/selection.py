"""Selection: the captures that a takedown is about."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, NamedTuple, Self, cast

from imgcache_scrapy.core.blocked import Source
from imgcache_scrapy.core.checks import checked_time
from imgcache_scrapy.core.entry import Entry
from imgcache_scrapy.core.errors import CountChangedError, InvalidRequestError
from imgcache_scrapy.core.filters import Filters, checked_filters
from imgcache_scrapy.core.image_url import ImageUrl
from imgcache_scrapy.core.urls import host_of

_BUCKET = "bucket"
# The numbers of these filters leave something out only if they are not 0.
_MINIMA = ("min_width", "min_height", "min_bytes")


class Selection(NamedTuple):
    """The captures that meet filters; without a URL and without filters all captures.

    Attributes:
        filters: the filters, which are checked.
        url: the URL, whose keys are compared as a lookup does; None for any URL.
    """

    filters: Filters
    url: ImageUrl | None = None

    @classmethod
    def of(
        cls,
        filters: Mapping[str, Any],
        url: ImageUrl | None = None,
        *,
        before: datetime | str | None = None,
        all_captures: bool = False,
        bucket: str | None = None,
    ) -> Self:
        """Check what was asked for.

        Args:
            filters: the filters; those of None are left out.
            url: the URL; None for any URL.
            before: the same as the filter `until`.
            all_captures: whether all captures are meant if there is no filter.
            bucket: the bucket if the filters name none; None for all buckets.

        Raises:
            InvalidRequestError: a filter is not valid or leaves nothing out.
            CountChangedError: there is no filter, and `all_captures` is False.
        """
        wanted = checked_filters({**filters, **_until(filters, before)})
        # As given: a check may complete a value.
        for name, value in filters.items():
            if (value == "" and name != _BUCKET) or (value == 0 and name in _MINIMA):
                raise InvalidRequestError(f"{name} is empty: give it a value, or leave it out")
        if not wanted and url is None and not all_captures:
            raise CountChangedError(
                "give at least one filter: without any, all captures would be deleted"
            )
        # Not checked twice, which a completed value may not stand.
        own = {} if _BUCKET in wanted else checked_filters({_BUCKET: bucket})
        return cls(cast("Filters", {**own, **wanted}), url)

    @property
    def source(self) -> Source | None:
        """The host or the URL, if the selection has no other condition than it and a bucket."""
        names = self.filters.keys() - {_BUCKET}
        if self.url is not None:
            return Source("url", self.url.key) if not names else None
        return Source("host", cast("str", self.filters["host"])) if names == {"host"} else None

    def description(self) -> dict[str, Any]:
        """Return the conditions as JSON has them; `all` if there is none."""
        found: dict[str, Any] = {} if self.url is None else {"url": self.url.url}
        for name, value in self.filters.items():
            found[name] = value.isoformat() if isinstance(value, datetime) else value
        return found or {"all": True}

    def has(self, entry: Entry) -> bool:
        """Return whether a capture is in the selection.

        Args:
            entry: its entry. A size in pixels that is not known meets no filter for it.
        """
        if self.url is not None and {entry["key"], entry["url"]}.isdisjoint(self.url.keys):
            return False
        return all(_MEETS[name](entry, value) for name, value in self.filters.items())


def _until(filters: Mapping[str, Any], before: datetime | str | None) -> dict[str, Any]:
    times = [checked_time(each) for each in (filters.get("until"), before)]
    given = [each for each in times if each is not None]
    return {"until": min(given)} if given else {}


def _time(entry: Entry) -> datetime:
    return datetime.fromisoformat(entry["lookup_time"])


_MEETS: Mapping[str, Callable[[Entry, Any], bool]] = {
    "url_contains": lambda entry, part: part in entry["url"],
    "host": lambda entry, host: host_of(entry["url"]) == host,
    "bucket": lambda entry, bucket: entry["bucket"] == bucket,
    "client_name": lambda entry, name: entry["client_name"] == name,
    "content_type": lambda entry, content_type: entry["content_type"] == content_type,
    "since": lambda entry, time: _time(entry) >= time,
    "until": lambda entry, time: _time(entry) < time,
    "min_width": lambda entry, width: entry["width"] is not None and entry["width"] >= width,
    "min_height": lambda entry, height: entry["height"] is not None and entry["height"] >= height,
    "min_bytes": lambda entry, size: entry["file_size_bytes"] >= size,
    "max_bytes": lambda entry, size: entry["file_size_bytes"] <= size,
    # What is in no cache yet has no uses.
    "page_url": lambda *_: False,
    "job": lambda *_: False,
    "damaged": lambda entry, damaged: entry.get("damaged", False) is damaged,
}
