"""Results: adds what the cache knows to the results in items."""

from copy import copy
from typing import Any

from imgcache_scrapy.plugin.outcome import Outcome

# The URL in a result is the item's spelling.
_NOT_IN_RESULTS = {"url", "created", "headers", "final_url", "accept"}


def with_entry(result: Any, outcome: Outcome) -> Any:
    """Return a copy of a result with the keys of the entry, or the reason why there is no entry.

    Keys that the result has are not changed. A result without a path is returned as it is.
    """
    if not isinstance(result, dict) or "path" not in result:
        return result
    result = copy(result)
    for name, value in (outcome.entry or {}).items():
        if name not in _NOT_IN_RESULTS:
            result.setdefault(name, value)
    if outcome.error is not None:
        result.setdefault("reason", outcome.error.reason)
    return result
