"""Decide whether a capture is recent enough to be used without asking the site."""

from datetime import UTC, datetime

from imgcache_scrapy.core.entry import Entry
from imgcache_scrapy.core.errors import InvalidRequestError


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
    return age.total_seconds() < max_age


def checked_max_age(max_age: float | None) -> float | None:
    """Check a maximum age in seconds, or None.

    Raises:
        InvalidRequestError: it is neither.
    """
    if max_age is not None and (not isinstance(max_age, (int, float)) or not max_age >= 0):
        raise InvalidRequestError(f"a maximum age is a number of seconds, not {max_age!r:.80}")
    return max_age
