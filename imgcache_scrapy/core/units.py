"""Sizes and times as people write them: `10GB`, `90d`."""

import re
from datetime import timedelta

from imgcache_scrapy.core.errors import InvalidRequestError
from imgcache_scrapy.core.limits import MAX_NUMBER

_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?([kmgt]?)(i?)b?", re.IGNORECASE)
_DAYS = {"d": 1, "w": 7, "y": 365}
_TIME = re.compile(r"([0-9]{1,6})([dwy])")


def checked_size(size: int | str) -> int:
    """Return a size in bytes.

    Args:
        size: a number of bytes, or a text such as `500MB` (1 MB is 1,000,000 bytes) or `2GiB`
            (1 GiB is 2**30 bytes).

    Raises:
        InvalidRequestError: it is neither.
    """
    found = _SIZE.fullmatch(str(size).strip())
    if found is not None:
        number, prefix, is_binary = found.groups()
        power = "kmgt".index(prefix.lower()) + 1 if prefix else 0
        result = int(float(number) * (1024 if is_binary else 1000) ** power)
        if result <= MAX_NUMBER:
            return result
    raise InvalidRequestError(f"a size is a number of bytes, such as 500MB, not {size!r:.80}")


def checked_days(time: str) -> timedelta:
    """Return a time in whole days.

    Args:
        time: a number of days, weeks or years of 365 days: `90d`, `4w`, `1y`.

    Raises:
        InvalidRequestError: it is something else.
    """
    found = _TIME.fullmatch(time.strip())
    if found is None:
        raise InvalidRequestError(f"a time is a number of days, such as 90d, not {time!r:.80}")
    return timedelta(days=int(found[1]) * _DAYS[found[2]])
