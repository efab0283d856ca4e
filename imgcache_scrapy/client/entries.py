"""Check the values in the answers of a service: entries, texts and numbers."""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, cast

from imgcache_scrapy.core.entry import Entry, is_content_hash
from imgcache_scrapy.core.errors import ProtocolError
from imgcache_scrapy.core.limits import (
    MAX_NUMBER,
    MAX_TEXT,
    MAX_URL_BYTES,
    PERCEPTUAL_HASH_PATTERN,
)
from imgcache_scrapy.core.response_info import STORED_HEADERS

Check = Callable[[Any], bool]
"""Returns whether a value of an answer is right."""


def json_object(body: Any) -> dict[str, Any]:
    """Check that a part of an answer is a JSON object.

    Raises:
        ProtocolError: it is none.
    """
    if not isinstance(body, dict):
        raise ProtocolError(f"the answer should be an object, not {type(body).__name__}")
    return body


def is_text(value: Any, max_length: int = MAX_TEXT) -> bool:
    """Return whether a value is a text of a length that the API allows."""
    # A text with half of a surrogate pair, which JSON allows, cannot be encoded in any feed.
    return isinstance(value, str) and len(value) <= max_length and not _SURROGATE.search(value)


def is_url(value: Any) -> bool:
    """Return whether a value is a text that may be as long as a URL."""
    return is_text(value, MAX_URL_BYTES)


def is_count(value: Any) -> bool:
    """Return whether a value is a whole number from 0 on."""
    return type(value) is int and 0 <= value <= MAX_NUMBER


def or_none(is_right: Check) -> Check:
    """Return the check of a value that may also be None."""
    return lambda value: value is None or is_right(value)


def _is_size(value: Any) -> bool:
    return is_count(value) and value > 0


def _are_headers(value: Any) -> bool:
    return isinstance(value, dict) and all(
        name in STORED_HEADERS and is_text(value[name]) for name in value
    )


def _is_match(value: Any, pattern: str) -> bool:
    return isinstance(value, str) and re.fullmatch(pattern, value) is not None


_SURROGATE = re.compile("[\ud800-\udfff]")
_CONTENT_TYPE_PATTERN = r"[!-~]+/[ -~]{1,200}"
_REQUIRED: dict[str, Check] = {
    "url": is_url,
    "content_hash": is_content_hash,
    "content_type": lambda value: _is_match(value, _CONTENT_TYPE_PATTERN),
    "file_size_bytes": is_count,
    "original_filename": or_none(is_text),
    "width": or_none(_is_size),
    "height": or_none(_is_size),
    "perceptual_hash": or_none(lambda value: _is_match(value, PERCEPTUAL_HASH_PATTERN)),
    "client_name": is_text,
    "lookup_time": is_text,
    "created_at": is_text,
}
_OPTIONAL: dict[str, Check] = {
    "key": is_url,
    "bucket": is_text,
    "headers": _are_headers,
    "final_url": is_url,
    "accept": is_text,
    "converted": lambda value: isinstance(value, bool),
    "blocked": lambda value: isinstance(value, bool),
    "damaged": lambda value: isinstance(value, bool),
    "paths": is_count,
    "hosts": is_count,
}


def entry_of(body: Any, **asked: str) -> Entry:
    """Check an entry and keep the keys that this version knows.

    Args:
        body: the entry, as it was received.
        asked: the fields whose values were asked for.

    Raises:
        ProtocolError: it is no entry, or the entry of something else.
    """
    entry = json_object(body)
    known = {name: entry[name] for name in (*_REQUIRED, *_OPTIONAL) if name in entry}
    wrong = [name for name, is_right in _REQUIRED.items() if not is_right(entry.get(name, ...))]
    wrong += [name for name in _OPTIONAL if name in known and not _OPTIONAL[name](known[name])]
    if wrong:
        raise ProtocolError(
            f"the answer is not an entry ({', '.join(wrong)}): is this the address of a cache?"
        )
    # The key of other services is the URL.
    known.setdefault("key", entry["url"])
    for name, value in asked.items():
        if known[name] != value:
            raise ProtocolError(f"the answer is an entry of something else: its {name} is another")
    try:
        times = {name: _with_offset(entry[name]) for name in ("lookup_time", "created_at")}
    except ValueError as error:
        raise ProtocolError(f"the answer is not an entry: {error}") from error
    return cast("Entry", known | times)


def _with_offset(time: str) -> str:
    """Add the UTC offset if it is missing, as in the answers of the reference service."""
    moment = datetime.fromisoformat(time)
    return time if moment.tzinfo else moment.replace(tzinfo=UTC).isoformat()
