"""Check the parts of a service's answers that are no entries of images."""

import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, cast

from imgcache_scrapy.client.entries import Check, is_count, is_text, is_url, json_object, or_none
from imgcache_scrapy.core.audit import AuditEntry
from imgcache_scrapy.core.blocked import BlockedImage, BlockedSource
from imgcache_scrapy.core.entry import is_content_hash
from imgcache_scrapy.core.errors import ProtocolError
from imgcache_scrapy.core.failures import Failure
from imgcache_scrapy.core.limits import (
    MAX_FILTER,
    REASON_PATTERN,
)
from imgcache_scrapy.core.uses import Use


def is_time(value: Any) -> bool:
    """Return whether a value is a time as ISO 8601 with an offset."""
    try:
        return isinstance(value, str) and datetime.fromisoformat(value).tzinfo is not None
    except ValueError:
        return False


_BLOCKED: Mapping[str, Check] = {
    "content_hash": is_content_hash,
    "reason": lambda value: is_text(value, MAX_FILTER),
    "created_at": is_time,
}

_SOURCE: Mapping[str, Check] = {
    "content_hash": lambda value: value is None,
    "host": or_none(is_text),
    "url": or_none(is_url),
    "reason": lambda value: is_text(value, MAX_FILTER),
    "created_at": is_time,
}

_AUDIT: Mapping[str, Check] = {
    "done_at": is_time,
    "actor": is_text,
    "act": is_text,
    "filter": lambda value: isinstance(value, dict),
    "captures": is_count,
    "images": is_count,
    "bytes": is_count,
}

_FAILURE: Mapping[str, Check] = {
    "url": is_url,
    "bucket": is_text,
    "reason": lambda value: isinstance(value, str) and bool(re.fullmatch(REASON_PATTERN, value)),
    "http_status": or_none(lambda value: type(value) is int and 400 <= value < 600),  # noqa: PLR2004
    "failed_at": is_time,
    "expires_at": is_time,
}

_USE: Mapping[str, Check] = {
    "content_hash": is_content_hash,
    "url": is_url,
    "key": is_url,
    "bucket": is_text,
    "page_url": or_none(is_url),
    **dict.fromkeys(("item", "spider", "job"), or_none(is_text)),
    "position": or_none(is_count),
    **dict.fromkeys(("alt", "caption"), or_none(is_text)),
    "meta": or_none(lambda value: isinstance(value, dict)),
    "first_used_at": is_time,
    "used_at": is_time,
}


def read_blocked(body: Any) -> BlockedImage:
    """Check a blocked image.

    Raises:
        ProtocolError: the body is none.
    """
    return cast("BlockedImage", _checked(body, _BLOCKED, "blocked image"))


def read_blocked_source(body: Any) -> BlockedSource:
    """Check a blocked host or URL.

    Raises:
        ProtocolError: the body is none.
    """
    return cast("BlockedSource", _checked(body, _SOURCE, "blocked host or URL"))


def read_audit(body: Any) -> AuditEntry:
    """Check an act of the audit list.

    Raises:
        ProtocolError: the body is none.
    """
    return cast("AuditEntry", _checked(body, _AUDIT, "act of an audit list"))


def read_use(body: Any) -> Use:
    """Check a use of an image.

    Raises:
        ProtocolError: the body is none.
    """
    return cast("Use", _checked(body, _USE, "use of an image"))


def next_position(following: Mapping[str, str] | None, after: str | None) -> str | None:
    """Return the position of the next page; None if there is none.

    Args:
        following: the query of the next page; None if there is none.
        after: the position of the page before it.

    Raises:
        ProtocolError: the next page would be one that was read before.
    """
    position = None if following is None else following.get("after")
    if following is not None and position in {None, after}:
        raise ProtocolError("the answer says that a page follows that was read before")
    return position


def read_keys(body: Any, asked: Iterable[str]) -> frozenset[str]:
    """Check a list of some of the URLs and keys that were asked for.

    Args:
        body: the list; None in the answer of another implementation.
        asked: the URLs and keys.

    Raises:
        ProtocolError: the body is something else.
    """
    if body is None:
        return frozenset()
    if not isinstance(body, list) or not all(isinstance(each, str) for each in body):
        raise ProtocolError("the answer should have a list of URLs: is this a cache?")
    return frozenset(body).intersection(asked)


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


def _checked(body: Any, checks: Mapping[str, Check], what: str) -> dict[str, Any]:
    """Check an object and keep the keys that this version knows."""
    found = json_object(body)
    wrong = [name for name, is_right in checks.items() if not is_right(found.get(name, ...))]
    if wrong:
        raise ProtocolError(
            f"the answer is no {what} ({', '.join(wrong)}): is this the address of a cache?"
        )
    return {name: found[name] for name in checks}
