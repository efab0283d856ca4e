"""Read the answers of a service: pure functions of HTTP status and body."""

import json
import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any, NamedTuple, Self, TypeVar, cast
from urllib.parse import parse_qsl, urlsplit

from imgcache_scrapy.core.entry import Entry, is_content_hash
from imgcache_scrapy.core.errors import (
    REFUSALS,
    HostError,
    NotFoundError,
    ProtocolError,
    error_for_status,
)
from imgcache_scrapy.core.limits import (
    MAX_NUMBER,
    MAX_TEXT,
    MAX_URL_BYTES,
    PERCEPTUAL_HASH_PATTERN,
)
from imgcache_scrapy.core.pages import ListPage
from imgcache_scrapy.core.response_info import STORED_HEADERS
from imgcache_scrapy.core.urls import without_fragment

T = TypeVar("T")

_CREATED = 201
_NOT_FOUND = 404
_NO_METHOD = 405
_LINK = re.compile(r"<([^<>]*)>([^<]*)")
_RELATION = re.compile(r';\s*rel\s*=\s*"?([^",;]*)', re.IGNORECASE)


class Answer(NamedTuple):
    """An answer of a service, as it was received.

    Attributes:
        status: the HTTP status.
        body: the bytes of the body.
        link: the header `Link`.
    """

    status: int
    body: bytes
    link: str = ""

    def checked(self) -> Self:
        """Return the answer itself if its status is a success.

        Raises:
            ImgCacheError: the error for the status, with the detail from the body.
        """
        if 200 <= self.status < 300:  # noqa: PLR2004
            return self
        problem = self._problem()
        error, detail = error_for_status(self.status, problem.get("code")), problem.get("detail")
        # A proxy that refuses a request must not cost an image, and its 404 is no miss.
        is_foreign = issubclass(error, (*REFUSALS, HostError)) or (
            error is NotFoundError and self.body
        )
        if detail is None and is_foreign:
            raise ProtocolError(
                f"the answer {self.status} does not come from a cache: is this the address of a"
                " cache, and does a proxy before it refuse large requests?"
            )
        raise error(str(detail or f"the cache answered {self.status}"))

    def object(self) -> dict[str, Any]:
        """Read a JSON object.

        Raises:
            ProtocolError: the body is not a JSON object.
        """
        return json_object(self._json())

    def entry(self, **asked: str) -> Entry:
        """Read an entry.

        Args:
            asked: the fields of the entry whose values were asked for, as `key=…`.

        Raises:
            ProtocolError: the body is not an entry, or it is an entry of something else.
        """
        return entry_of(self._json(), **asked)

    def stored_entry(self, key: str, content_hash: str) -> Entry:
        """Read the answer to a store: the entry, and from the status whether the image is new.

        Args:
            key: the cache key that was stored.
            content_hash: the hash of the bytes that were stored.

        Raises:
            ProtocolError: the body is not the entry of this image.
        """
        created = self.status == _CREATED
        # For a known image, the reference service returns the URL of its first store.
        entry = self.entry(content_hash=content_hash, **({"key": key} if created else {}))
        return {**entry, "created": created}

    @property
    def lacks_route(self) -> bool:
        """Whether the service does not have the route of the request."""
        is_missing = self.status == _NOT_FOUND and self._problem().get("code") != NotFoundError.code
        return is_missing or self.status == _NO_METHOD

    def claimed_entry(self, key: str, content_hash: str) -> Entry | None:
        """Read the answer to a claim: the entry; None if the service does not have the bytes.

        Args:
            key: the cache key that was claimed.
            content_hash: the hash of the image.

        Raises:
            ProtocolError: the body is not the entry of this capture.
        """
        try:
            entry = self.checked().entry(key=key, content_hash=content_hash)
        except NotFoundError:
            return None
        return {**entry, "created": False}

    def page(self, read: Callable[[Any], T]) -> ListPage[T]:
        """Read a page of a list; its `after` is the query of the next page.

        Args:
            read: checks one of the list, and raises a `ProtocolError` if it is wrong.

        Raises:
            ProtocolError: the body is not such a list, or an empty page has a next page.
        """
        body, after = self._json(), _next_query(self.link)
        if not isinstance(body, list):
            raise ProtocolError(f"the answer should be a list, not {type(body).__name__}")
        if not body and after is not None:
            raise ProtocolError("the answer is an empty page, but says that another one follows")
        return ListPage([read(each) for each in body], after)

    def _problem(self) -> dict[str, Any]:
        """Read the body of an error; empty if it is not a JSON object."""
        try:
            return self.object()
        except ProtocolError:
            return {}

    def _json(self) -> Any:
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError) as error:
            raise ProtocolError(
                "the answer is not JSON: is this the address of a cache?"
            ) from error


def entries_by_key(body: dict[str, Any], keys: Iterable[str]) -> dict[str, Entry]:
    """Read the answer to a batch of lookups: the entry of each key that is in the cache.

    Args:
        body: the answer.
        keys: the keys that were asked for.

    Raises:
        ProtocolError: the body is not such an answer.
    """
    found = json_object(body.get("entries"))
    return {key: entry_of(found[key], key=key) for key in keys if key in found}


def with_distance(entry: Entry, perceptual_hash: str) -> Entry:
    """Add the distance to a perceptual hash, because not every service sends it."""
    other = int(entry["perceptual_hash"] or "0", 16)
    return {**entry, "distance": (other ^ int(perceptual_hash, 16)).bit_count()}


def newest_of_urls(entries: Iterable[Entry]) -> list[Entry]:
    """Return one entry per URL, newest first; not every service sorts and filters like this."""
    newest: dict[str, Entry] = {}
    for entry in newest_first(entries):
        newest.setdefault(without_fragment(entry["key"]), entry)
    return list(newest.values())


def newest_first(entries: Iterable[Entry]) -> list[Entry]:
    """Sort entries by their lookup time, the newest first; entries of one time keep their order."""
    return sorted(entries, key=_lookup_time, reverse=True)


def _lookup_time(entry: Entry) -> datetime:
    return datetime.fromisoformat(entry["lookup_time"])


def _next_query(link: str) -> dict[str, str] | None:
    """Return the query of the next page from a header `Link`; None if there is no next page."""
    for target, parameters in _LINK.findall(link):
        relation = _RELATION.search(parameters)
        if relation is not None and "next" in relation[1].lower().split():
            return dict(parse_qsl(urlsplit(target).query, keep_blank_values=True))
    return None


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


def is_count(value: Any) -> bool:
    """Return whether a value is a whole number from 0 on."""
    return _is_number(value, 0)


def _is_number(value: Any, lowest: int) -> bool:
    return type(value) is int and lowest <= value <= MAX_NUMBER


def _are_headers(value: Any) -> bool:
    return isinstance(value, dict) and all(
        name in STORED_HEADERS and is_text(value[name]) for name in value
    )


def _is_match(value: Any, pattern: str) -> bool:
    return isinstance(value, str) and re.fullmatch(pattern, value) is not None


_SURROGATE = re.compile("[\ud800-\udfff]")
_CONTENT_TYPE_PATTERN = r"[!-~]+/[ -~]{1,200}"
_REQUIRED: dict[str, Callable[[Any], bool]] = {
    "url": lambda value: is_text(value, MAX_URL_BYTES),
    "content_hash": is_content_hash,
    "content_type": lambda value: _is_match(value, _CONTENT_TYPE_PATTERN),
    "file_size_bytes": lambda value: _is_number(value, 0),
    "original_filename": lambda value: value is None or is_text(value),
    "width": lambda value: value is None or _is_number(value, 1),
    "height": lambda value: value is None or _is_number(value, 1),
    "perceptual_hash": lambda value: value is None or _is_match(value, PERCEPTUAL_HASH_PATTERN),
    "client_name": is_text,
    "lookup_time": is_text,
    "created_at": is_text,
}
_OPTIONAL: dict[str, Callable[[Any], bool]] = {
    "key": lambda value: is_text(value, MAX_URL_BYTES),
    "bucket": is_text,
    "headers": _are_headers,
    "final_url": lambda value: is_text(value, MAX_URL_BYTES),
    "converted": lambda value: isinstance(value, bool),
    "blocked": lambda value: isinstance(value, bool),
    "damaged": lambda value: isinstance(value, bool),
    "paths": lambda value: _is_number(value, 0),
    "hosts": lambda value: _is_number(value, 0),
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
