"""Read the answers of a service: pure functions of HTTP status and body."""

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, NamedTuple, Self, cast

from imgcache_scrapy.core.entry import Entry, is_content_hash
from imgcache_scrapy.core.errors import NotFoundError, ProtocolError, error_for_status
from imgcache_scrapy.core.urls import without_fragment

_CREATED = 201


class Answer(NamedTuple):
    """An answer of a service, as it was received.

    Attributes:
        status: the HTTP status.
        body: the bytes of the body.
    """

    status: int
    body: bytes

    def checked(self) -> Self:
        """Return the answer itself if its status is a success.

        Raises:
            ImgCacheError: the error for the status, with the detail from the body.
        """
        if 200 <= self.status < 300:  # noqa: PLR2004
            return self
        error, detail = error_for_status(self.status), self._detail()
        if error is NotFoundError and detail is None and self.body:
            # This 404 does not come from a cache: as a miss it would hide a wrong address.
            error = ProtocolError
        raise error(detail or f"the cache answered {self.status}")

    def object(self) -> dict[str, Any]:
        """Read a JSON object.

        Raises:
            ProtocolError: the body is not a JSON object.
        """
        return _object(self._json())

    def entry(self) -> Entry:
        """Read an entry.

        Raises:
            ProtocolError: the body is not an entry.
        """
        return _entry(self._json())

    def stored_entry(self) -> Entry:
        """Read the answer to a store: the entry, and from the status whether the image is new."""
        return {**self.entry(), "created": self.status == _CREATED}

    def entries(self) -> list[Entry]:
        """Read a list of entries.

        Raises:
            ProtocolError: the body is not a list of entries.
        """
        body = self._json()
        if not isinstance(body, list):
            raise ProtocolError(f"the answer should be a list, not {type(body).__name__}")
        return [_entry(entry) for entry in body]

    def entries_by_url(self) -> dict[str, Entry]:
        """Read the answer to a batch of lookups: the entry of each URL that is in the cache.

        Raises:
            ProtocolError: the body is not such an answer.
        """
        found = _object(self.object().get("entries"))
        return {url: _entry(entry) for url, entry in found.items()}

    def _detail(self) -> str | None:
        try:
            body = json.loads(self.body)
        except ValueError:
            return None
        return str(body.get("detail", "")) if isinstance(body, dict) else None

    def _json(self) -> Any:
        try:
            return json.loads(self.body)
        except ValueError as error:
            raise ProtocolError(
                "the answer is not JSON: is this the address of a cache?"
            ) from error


def with_distance(entry: Entry, perceptual_hash: str) -> Entry:
    """Add the distance to a perceptual hash, because not every service sends it.

    Raises:
        ProtocolError: the perceptual hash of the entry is not hexadecimal.
    """
    try:
        other = int(entry["perceptual_hash"] or "0", 16)
    except ValueError as error:
        raise ProtocolError(f"the answer is not an entry: {error}") from error
    return {**entry, "distance": (other ^ int(perceptual_hash, 16)).bit_count()}


def newest_of_urls(entries: Iterable[Entry]) -> list[Entry]:
    """Return one entry per URL, newest first; not every service sorts and filters like this."""
    newest: dict[str, Entry] = {}
    for entry in sorted(entries, key=_lookup_time, reverse=True):
        newest.setdefault(without_fragment(entry["url"]), entry)
    return list(newest.values())


def _lookup_time(entry: Entry) -> datetime:
    return datetime.fromisoformat(entry["lookup_time"])


def _object(body: Any) -> dict[str, Any]:
    if not isinstance(body, dict):
        raise ProtocolError(f"the answer should be an object, not {type(body).__name__}")
    return body


_OPTIONAL_TEXT, _OPTIONAL_NUMBER = (str, type(None)), (int, type(None))
_TYPES: dict[str, type | tuple[type, ...]] = {
    "url": str,
    "content_hash": str,
    "content_type": str,
    "file_size_bytes": int,
    "original_filename": _OPTIONAL_TEXT,
    "width": _OPTIONAL_NUMBER,
    "height": _OPTIONAL_NUMBER,
    "perceptual_hash": _OPTIONAL_TEXT,
    "client_name": str,
    "lookup_time": str,
    "created_at": str,
}


def _entry(body: Any) -> Entry:
    entry = _object(body)
    wrong = [name for name, kind in _TYPES.items() if not isinstance(entry.get(name, ...), kind)]
    if wrong or not is_content_hash(entry["content_hash"]):
        raise ProtocolError(
            f"the answer is not an entry ({', '.join(wrong) or 'content_hash'}): "
            "is this the address of a cache?"
        )
    try:
        times = {name: _with_offset(entry[name]) for name in ("lookup_time", "created_at")}
    except ValueError as error:
        raise ProtocolError(f"the answer is not an entry: {error}") from error
    return cast("Entry", entry | times)


def _with_offset(time: str) -> str:
    """Add the UTC offset if it is missing, as in the answers of the reference service."""
    moment = datetime.fromisoformat(time)
    return time if moment.tzinfo else moment.replace(tzinfo=UTC).isoformat()
