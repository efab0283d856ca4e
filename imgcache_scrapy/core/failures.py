"""Failures of sites: which ones a cache remembers, and for how long."""

import re
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import NamedTuple, TypedDict

from imgcache_scrapy.core.entry import Entry
from imgcache_scrapy.core.image_url import ImageUrl

MAX_SECONDS = 30 * 86_400
"""Maximum time in seconds for which a failure is remembered."""
DEFAULT_SECONDS: Mapping[str, float] = {"http_404": 86_400, "http_410": 86_400}
"""The reasons that are remembered by default, each with its time in seconds."""

_MAX_RETRY_AFTER = 3_600
# The time of these is what the site asks for in its header Retry-After.
_WITH_RETRY_AFTER = frozenset({"http_429", "http_503"})
_REASONS = re.compile(r"http_[45][0-9]{2}|dns|connection|timeout")
# A date has 29 characters.
_MAX_HEADER = 100


class Failure(TypedDict):
    """A failure that the cache remembers: the URL gave no image, and need not be asked again yet.

    Attributes:
        url: the URL that was asked, with its signature.
        bucket: the name space in which it is remembered.
        reason: the reason as in the stats, for example `http_404`.
        http_status: the status of the site's response; None if there was none.
        failed_at: when the URL was asked, ISO 8601, UTC.
        expires_at: until when it is remembered, ISO 8601, UTC.
    """

    url: str
    bucket: str
    reason: str
    http_status: int | None
    failed_at: str
    expires_at: str


class SeenFailure(NamedTuple):
    """A failure to remember.

    Attributes:
        url: the URL that was asked, with its key.
        reason: the reason as in the stats.
        http_status: the status of the site's response; None if there was none.
        seconds: for how long it is remembered.
    """

    url: ImageUrl
    reason: str
    http_status: int | None
    seconds: float


class Found(NamedTuple):
    """The answer to a batch of lookups.

    Attributes:
        entries: the entries of the keys that are in the cache, by key.
        failures: the remembered failures of URLs that were asked for, by URL.
        blocked: which keys and URLs are blocked, or are of a blocked host; only if there were URLs.
    """

    entries: dict[str, Entry]
    failures: Mapping[str, Failure] = {}
    blocked: AbstractSet[str] = frozenset()


def seconds_to_remember(
    reason: str, retry_after: str | None, rules: Mapping[str, float], now: datetime
) -> float | None:
    """Decide for how long a failure is remembered.

    Args:
        reason: the reason as in the stats.
        retry_after: the header Retry-After of the response; None if there is none.
        rules: the time in seconds for each reason that is remembered, 0 for never.
        now: the time, with an offset.

    Returns:
        The time in seconds; None if the failure is not remembered.
    """
    if reason in rules:
        return rules[reason] or None
    if reason in _WITH_RETRY_AFTER and retry_after is not None:
        return _seconds_of(retry_after.strip(), now)
    return None


def _seconds_of(retry_after: str, now: datetime) -> float | None:
    """Return the time that a header Retry-After asks for, at most an hour; None if it has none."""
    if len(retry_after) > _MAX_HEADER:
        return None
    if re.fullmatch("[0-9]+", retry_after):
        return min(int(retry_after), _MAX_RETRY_AFTER) or None
    try:
        until = parsedate_to_datetime(retry_after)
        seconds = (until if until.tzinfo else until.replace(tzinfo=UTC)) - now
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
    return min(seconds.total_seconds(), _MAX_RETRY_AFTER) if seconds.total_seconds() > 0 else None


def checked_rules(rules: object) -> Mapping[str, float]:
    """Return the default rules together with those of the user.

    Args:
        rules: the time in seconds for some reasons: `http_400` to `http_599`, `dns`, `connection`,
            `timeout`; 0 for never.

    Raises:
        ValueError: a reason or a time is not valid.
    """
    if not isinstance(rules, Mapping):
        raise ValueError("it must be a dict of reasons")  # noqa: TRY004 - it is a setting
    for reason, seconds in rules.items():
        if not isinstance(reason, str) or not _REASONS.fullmatch(reason):
            raise ValueError(f"{reason!r:.80} is no reason that can be remembered")
        is_number = isinstance(seconds, (int, float)) and not isinstance(seconds, bool)
        if not is_number or not 0 <= seconds <= MAX_SECONDS:
            raise ValueError(f"{reason} needs a number of seconds, 0 to {MAX_SECONDS}")
    return {**DEFAULT_SECONDS, **rules}
