"""FreshnessRules: by the settings, which captures and local files are too old."""

import json
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar
from urllib.parse import urlsplit

from imgcache_scrapy.core.entry import Entry
from imgcache_scrapy.core.errors import ConfigurationError
from imgcache_scrapy.core.freshness import is_fresh
from imgcache_scrapy.core.hosts import EVERY_HOST, checked_host, hosts_with_rules
from imgcache_scrapy.core.revalidation import GONE_STATUSES
from imgcache_scrapy.core.text import quoted

T = TypeVar("T")
Mode = Literal["normal", "refresh", "offline"]
OnGone = Literal["fail", "stale"]

MODES: tuple[Mode, ...] = ("normal", "refresh", "offline")
ON_GONE: tuple[OnGone, ...] = ("fail", "stale")

_DAY = 86_400


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

    def dated_file(
        self, stat: Mapping[str, Any], now: float, max_age: float | None
    ) -> Mapping[str, Any]:
        """Return what Scrapy must know of a local file so that it decides as these rules do.

        Args:
            stat: what the store says about the file; it has `last_modified`.
            now: the time in seconds since 1970.
            max_age: maximum age of the file in seconds; None for no limit.

        Returns:
            The same with the newest possible date if the file may be used, else nothing.
        """
        age = now - stat["last_modified"]
        is_usable = self.mode == "offline" or max_age is None or age < max_age
        if self.mode == "refresh" or not is_usable:
            return {}
        return {**stat, "last_modified": math.inf}

    def fails(self, status: int) -> bool:
        """Return whether a status says that the image is gone, and must fail for that."""
        return status in GONE_STATUSES and self.on_gone == "fail"


def checked_max_ages(value: Any) -> dict[str, float | None]:
    """Check the maximum ages of a setting.

    Args:
        value: a number of seconds, or numbers by host; on the command line it is a text.

    Raises:
        ConfigurationError, TypeError, ValueError: it is neither.
    """
    if isinstance(value, str):
        value = json.loads(value)
    if not isinstance(value, Mapping):
        return {EVERY_HOST: checked_max_age(value)}
    return {checked_host(host): _max_age_of(host, age) for host, age in value.items()}


def checked_max_age(value: Any) -> float | None:
    """Check a maximum age in seconds, or None.

    Raises:
        ValueError: it is neither.
    """
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    # Larger whole numbers are no floats.
    if value is not None and not (is_number and 0 <= value <= sys.float_info.max):
        raise ValueError
    return None if value is None else float(value)


def _max_age_of(host: Any, value: Any) -> float | None:
    try:
        return checked_max_age(value)
    except ValueError as error:
        raise ConfigurationError(
            f"the age for {quoted(host)} is {quoted(value)}, not a number of seconds"
        ) from error


def seconds_of_days(days: float) -> float:
    """Return the maximum age in seconds for Scrapy's `EXPIRES`, in days; 0 if it is negative."""
    return max(0, days * _DAY)
