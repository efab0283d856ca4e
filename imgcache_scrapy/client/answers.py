"""Read the answers of a service: pure functions of HTTP status and body."""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any, NamedTuple, Self, TypeVar
from urllib.parse import parse_qsl

from imgcache_scrapy.client.entries import entry_of, json_object
from imgcache_scrapy.core.entry import Entry
from imgcache_scrapy.core.errors import (
    REFUSALS,
    HostError,
    NotFoundError,
    ProtocolError,
    error_for_status,
)
from imgcache_scrapy.core.pages import ListPage
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
        is_page = error is NotFoundError and self.body and detail is None
        is_refusal = issubclass(error, (*REFUSALS, HostError))
        # A proxy that refuses a request must not cost an image, and its 404 is no miss.
        if is_page or (is_refusal and not _is_of_a_cache(problem)):
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


def _is_of_a_cache(problem: Mapping[str, Any]) -> bool:
    """Return whether the body of an error is that of a cache, not of a proxy before it."""
    detail = problem.get("detail")
    if "code" in problem:
        return isinstance(problem["code"], str) and isinstance(detail, str)
    # The reference service has no codes.
    return detail is not None and len(problem) == 1


def entries_by_key(body: dict[str, Any], keys: Iterable[str]) -> dict[str, Entry]:
    """Read the answer to a batch of lookups: the entry of each key that is in the cache.

    Args:
        body: the answer.
        keys: the keys that were asked for.

    Returns:
        The entries, without wrong ones: of many images, only these have to be fetched again.

    Raises:
        ProtocolError: the body is not such an answer, or all entries in it are wrong.
    """
    found = json_object(body.get("entries"))
    entries, wrong = {}, None
    for key in (each for each in keys if each in found):
        try:
            entries[key] = entry_of(found[key], key=key)
        except ProtocolError as error:
            wrong = error
    if wrong is not None and not entries:
        raise wrong
    return entries


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
            # Its host, which may be no host at all, does not matter.
            query = target.partition("#")[0].partition("?")[2]
            return dict(parse_qsl(query, keep_blank_values=True))
    return None
