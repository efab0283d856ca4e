"""FreshnessRules: decide whether a capture is recent enough to be used without asking the site."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal, TypeVar
from urllib.parse import urlsplit

from imgcache_scrapy.core.entry import Entry
from imgcache_scrapy.core.errors import InvalidRequestError
from imgcache_scrapy.core.hosts import hosts_with_rules
from imgcache_scrapy.core.revalidation import GONE_STATUSES

T = TypeVar("T")
Mode = Literal["normal", "refresh", "offline"]
OnGone = Literal["fail", "stale"]

MODES: tuple[Mode, ...] = ("normal", "refresh", "offline")
ON_GONE: tuple[OnGone, ...] = ("fail", "stale")


@dataclass(frozen=True)
class FreshnessRules:
    """How old a capture or a local file may be before the site is asked again.

    Attributes:
        mode: `normal`; `refresh` to ask the site for every image; `offline` to ask it for none.
        max_ages: the maximum age in seconds for each host and its subdomains; None for no limit.
            The host `*` is every host.
        on_gone: what to do if the site answers 404 or 410: `fail`, or deliver the `stale` image.
    """

    mode: Mode = "normal"
    max_ages: Mapping[str, float | None] = field(default_factory=dict)
    on_gone: OnGone = "fail"

    def max_age(self, url: str, default: T) -> float | T | None:
        """Return the maximum age for a URL in seconds, or the default if no rule is set for it."""
        if self.max_ages:
            for host in hosts_with_rules(urlsplit(url).hostname or ""):
                if host in self.max_ages:
                    return self.max_ages[host]
        return default

    def must_ask(self, entry: Entry, max_age: float | None) -> bool:
        """Return whether the site must be asked before the image of an entry is used."""
        if self.mode == "normal":
            return not is_fresh(entry, max_age)
        return self.mode == "refresh"

    def fails(self, status: int | None) -> bool:
        """Return whether a status says that the image is gone, and must fail for that."""
        return status in GONE_STATUSES and self.on_gone == "fail"


def is_fresh(entry: Entry, max_age: float | None) -> bool:
    """Return whether a capture is not older than a limit.

    Args:
        entry: an entry.
        max_age: maximum age in seconds; None for no limit, 0 for none that is fresh.

    Raises:
        InvalidRequestError: the limit is not a number of seconds from 0 on.
    """
    if max_age is None:
        return True
    checked_max_age(max_age)
    age = datetime.now(UTC) - datetime.fromisoformat(entry["lookup_time"])
    # A time far ahead of this clock is that of a wrong clock, and says nothing about the age.
    return abs(age.total_seconds()) < max_age


def checked_max_age(max_age: float | None) -> float | None:
    """Check a maximum age in seconds, or None.

    Raises:
        InvalidRequestError: it is neither.
    """
    if max_age is None:
        return None
    # A bool is a number for Python: True would be a second. Larger whole numbers are no floats.
    is_number = isinstance(max_age, (int, float)) and not isinstance(max_age, bool)
    if not is_number or not 0 <= max_age <= sys.float_info.max:
        raise InvalidRequestError(f"a maximum age is a number of seconds, not {max_age!r:.80}")
    return float(max_age)
