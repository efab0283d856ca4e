"""Read the ages of settings, and decide which local files are too old."""

import json
import math
from collections.abc import Mapping
from typing import Any

from imgcache_scrapy.core.errors import ConfigurationError, InvalidRequestError
from imgcache_scrapy.core.freshness import FreshnessRules, checked_max_age
from imgcache_scrapy.core.hosts import EVERY_HOST, checked_host
from imgcache_scrapy.core.text import quoted

_DAY = 86_400


def dated_stat(
    rules: FreshnessRules, stat: Mapping[str, Any], now: float, max_age: float | None
) -> Mapping[str, Any]:
    """Return what Scrapy must know of a local file so that it decides as the rules do.

    Args:
        rules: the rules of the settings.
        stat: what the store says about the file; it has `last_modified`.
        now: the time in seconds since 1970.
        max_age: maximum age of the file in seconds; None for no limit.

    Returns:
        The same with the newest possible date if the file may be used, else nothing.
    """
    age = abs(now - stat["last_modified"])  # see `is_fresh`
    is_usable = rules.mode == "offline" or max_age is None or age < max_age
    if rules.mode == "refresh" or not is_usable:
        return {}
    return {**stat, "last_modified": math.inf}


def checked_max_ages(value: Any) -> dict[str, float | None]:
    """Check the maximum ages of a setting.

    Args:
        value: a number of seconds, or numbers by host; on the command line it is a text.

    Raises:
        ConfigurationError, InvalidRequestError, TypeError, ValueError: it is neither.
    """
    if isinstance(value, str):
        value = json.loads(value)
    if not isinstance(value, Mapping):
        return {EVERY_HOST: checked_max_age(value)}
    return {checked_host(host): _max_age_of(host, age) for host, age in value.items()}


def _max_age_of(host: Any, value: Any) -> float | None:
    try:
        return checked_max_age(value)
    except InvalidRequestError as error:
        raise ConfigurationError(
            f"the age for {quoted(host)} is {quoted(value)}, not a number of seconds"
        ) from error


def seconds_of_days(days: float) -> float:
    """Return the maximum age in seconds for Scrapy's `EXPIRES`, in days; 0 if it is negative."""
    return max(0, days * _DAY)
