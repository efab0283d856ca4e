"""Check the parts of a service's answers that are no entries of images."""

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any, cast

from imgcache_scrapy.client.answers import is_text, json_object
from imgcache_scrapy.core.blocked import BlockedImage
from imgcache_scrapy.core.entry import is_content_hash
from imgcache_scrapy.core.errors import ProtocolError
from imgcache_scrapy.core.failures import Failure
from imgcache_scrapy.core.limits import MAX_URL_BYTES, REASON_PATTERN


def is_time(value: Any) -> bool:
    """Return whether a value is a time as ISO 8601 with an offset."""
    try:
        return isinstance(value, str) and datetime.fromisoformat(value).tzinfo is not None
    except ValueError:
        return False


_BLOCKED: Mapping[str, Callable[[Any], bool]] = {
    "content_hash": is_content_hash,
    "reason": is_text,
    "created_at": is_time,
}


_FAILURE: Mapping[str, Callable[[Any], bool]] = {
    "url": lambda value: is_text(value, MAX_URL_BYTES),
    "bucket": is_text,
    "reason": lambda value: isinstance(value, str) and bool(re.fullmatch(REASON_PATTERN, value)),
    "http_status": lambda value: value is None or (type(value) is int and 400 <= value < 600),  # noqa: PLR2004
    "failed_at": is_time,
    "expires_at": is_time,
}


def read_blocked(body: Any) -> BlockedImage:
    """Check a blocked image.

    Raises:
        ProtocolError: the body is none.
    """
    return cast("BlockedImage", _checked(body, _BLOCKED, "blocked image"))


def read_failure(body: Any) -> Failure:
    """Check a failure that a cache remembers.

    Raises:
        ProtocolError: the body is none.
    """
    return cast("Failure", _checked(body, _FAILURE, "failure"))


def read_failures(body: Any, urls: Iterable[str]) -> dict[str, Failure]:
    """Check the failures of URLs that were looked up.

    Args:
        body: the failures by URL; None in the answer of another implementation.
        urls: the URLs that were asked for.

    Raises:
        ProtocolError: the body is something else.
    """
    found = {} if body is None else json_object(body)
    failures = {url: read_failure(found[url]) for url in urls if url in found}
    if any(failure["url"] != url for url, failure in failures.items()):
        raise ProtocolError("the answer has a failure of another URL")
    return failures


def _checked(body: Any, checks: Mapping[str, Callable[[Any], bool]], what: str) -> dict[str, Any]:
    """Check an object and keep the keys that this version knows."""
    found = json_object(body)
    wrong = [name for name, is_right in checks.items() if not is_right(found.get(name, ...))]
    if wrong:
        raise ProtocolError(
            f"the answer is no {what} ({', '.join(wrong)}): is this the address of a cache?"
        )
    return {name: found[name] for name in checks}
