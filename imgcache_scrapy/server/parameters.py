"""The types of the parameters of routes: their rules, and how the OpenAPI document shows them."""

import asyncio
import re
from collections.abc import Callable, Iterable
from datetime import datetime
from functools import partial
from typing import Annotated, Any, TypeVar

from fastapi import Header, Path, Query, Request
from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from imgcache_scrapy.core.checks import checked_text, checked_url
from imgcache_scrapy.core.errors import (
    HostError,
    InvalidRequestError,
    UnauthorizedError,
    UnavailableError,
)
from imgcache_scrapy.core.hosts import HOST_PATTERN
from imgcache_scrapy.core.image_url import ImageUrl
from imgcache_scrapy.core.keys import cache_key, without_user
from imgcache_scrapy.core.limits import (
    ACTOR_HEADER,
    AUDIT_POSITION_PATTERN,
    BLOCKED_POSITION_PATTERN,
    FAILURE_POSITION_PATTERN,
    HASH_PATTERN,
    MAX_LIMIT,
    MAX_TEXT,
    SEARCH_POSITION_PATTERN,
    SIMILAR_POSITION_PATTERN,
)
from imgcache_scrapy.core.times import in_utc
from imgcache_scrapy.core.urls import without_fragment

T = TypeVar("T")

# Keys of fewer characters are computed at once. Escaping a character takes as long as ten others.
_MAX_CHARACTERS_AT_ONCE = 2**15
_CHARACTERS_OF_AN_ESCAPE = 10

REFUSALS = (UnauthorizedError, HostError)
"""Errors that every route may answer, except for `/health`."""
FAILURES = (InvalidRequestError, UnavailableError, *REFUSALS)
"""Errors that every route with parameters may answer."""


def _checked_by(check: Callable[[str], str]) -> AfterValidator:
    """Return a validator with the rule of a check, as pydantic expects its errors."""

    def checked(text: str) -> str:
        try:
            return check(text)
        except InvalidRequestError as error:
            raise ValueError(str(error)) from error

    return AfterValidator(checked)


def check_iso_8601(value: object) -> object:
    """Refuse a number of seconds, which pydantic would accept as a time."""
    if value is not None and not re.match(r"\d{4}-\d\d-\d\d", str(value)):
        raise ValueError("a time must look like 2026-01-31T12:00:00+00:00")
    return value


def _in_utc(time: datetime) -> datetime:
    try:
        return in_utc(time)
    except OverflowError as error:
        raise ValueError("the time cannot be converted to UTC") from error


# The rules of the validators above, for the OpenAPI document.
TEXT_PATTERN = r"^[^\x00]*$"
GIVEN_URL_PATTERN = r"^[^\x00]*[^\s\x00\x1c-\x1f\x85][^\x00]*$"
# A fragment alone is no URL.
URL_PATTERN = r"^[^\x00#]*[^\s\x00\x1c-\x1f\x85#][^\x00]*$"


def _pattern_schema(pattern: str) -> dict[str, Any]:
    # With a plain pattern, schemathesis treats every text that ends with "*" as invalid.
    return {"allOf": [{"pattern": pattern}]}


Text = Annotated[
    str,
    Field(max_length=MAX_TEXT, json_schema_extra=_pattern_schema(TEXT_PATTERN)),
    _checked_by(partial(checked_text, "it")),
]
# Checked where it is used, by `stored_host`.
Host = Annotated[Text, Field(json_schema_extra=_pattern_schema(HOST_PATTERN))]
GivenUrl = Annotated[
    str,
    WithJsonSchema({"type": "string", **_pattern_schema(GIVEN_URL_PATTERN)}),
    _checked_by(checked_url),
]
Key = GivenUrl
Time = Annotated[datetime, BeforeValidator(check_iso_8601), AfterValidator(_in_utc)]
# A fragment is never sent to a site, so that it cannot select another image.
Url = Annotated[
    str,
    WithJsonSchema({"type": "string", **_pattern_schema(URL_PATTERN)}),
    _checked_by(checked_url),
    AfterValidator(without_fragment),
    _checked_by(checked_url),
]


def sent_url(url: str) -> str:
    """Return a URL of a request as a site gets it: without fragment, user and password."""
    sent = without_fragment(url)
    try:
        return without_user(sent)
    except InvalidRequestError:
        return sent


def image_url(url: str, key: str | None) -> ImageUrl:
    """Return a URL of a request with its key: the one that the request named, else the default.

    Any text is a URL here, as in the reference service. A text that has no default key is its key.
    A user and a password are never stored.
    """
    sent = sent_url(url)
    if key is not None:
        return ImageUrl(sent, key, (key,))
    try:
        key = cache_key(sent)
    except InvalidRequestError:
        key = sent
    return ImageUrl(sent, key, (key,) if key == sent else (key, sent))


async def with_keys(urls: Iterable[str], compute: Callable[[], T]) -> T:
    """Compute keys of URLs; do it in a thread if it takes so long that others would wait.

    Args:
        urls: the URLs.
        compute: computes their keys.
    """
    size = sum(len(url) * (1 if url.isascii() else _CHARACTERS_OF_AN_ESCAPE) for url in urls)
    return compute() if size <= _MAX_CHARACTERS_AT_ONCE else await asyncio.to_thread(compute)


def actor_of(request: Request, named: str | None) -> str:
    """Return who makes a request, for the audit list: who it says, else its address."""
    if named:
        return checked_text("an actor", named[:MAX_TEXT])
    return request.client.host if request.client is not None else ""


ContentHash = Annotated[str, Path(pattern=HASH_PATTERN)]
AnyBucket = Annotated[Text | None, Query()]
Limit = Annotated[int | None, Query(ge=1, le=MAX_LIMIT)]
Actor = Annotated[str | None, Header(alias=ACTOR_HEADER)]
AuditPosition = Annotated[str | None, Query(pattern=AUDIT_POSITION_PATTERN)]
SourcePosition = Annotated[str | None, Query(pattern=FAILURE_POSITION_PATTERN)]
BlockedPosition = Annotated[str | None, Query(pattern=BLOCKED_POSITION_PATTERN)]
FailurePosition = Annotated[str | None, Query(pattern=FAILURE_POSITION_PATTERN)]
SearchPosition = Annotated[str | None, Query(pattern=SEARCH_POSITION_PATTERN)]
SimilarPosition = Annotated[str | None, Query(pattern=SIMILAR_POSITION_PATTERN)]
