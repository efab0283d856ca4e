"""Filters: which captures a list, a count or a removal is about."""

from collections.abc import Callable, Mapping
from datetime import datetime
from functools import partial
from typing import Any, Literal, TypedDict, cast, get_args

from imgcache_scrapy.core.checks import checked_client_name, checked_text, checked_time
from imgcache_scrapy.core.entry import UNKNOWN_TYPE
from imgcache_scrapy.core.errors import InvalidRequestError
from imgcache_scrapy.core.formats import EXTENSIONS
from imgcache_scrapy.core.hosts import stored_host
from imgcache_scrapy.core.limits import MAX_NUMBER
from imgcache_scrapy.core.uses import page_of

Group = Literal["host", "bucket", "client", "type", "month"]
GROUPS = get_args(Group)
"""What the captures of a group in statistics have in common."""

TYPES = (*EXTENSIONS, UNKNOWN_TYPE)
"""The content types that this version gives to images."""
_TYPE_OF = {extension: content_type for content_type, extension in EXTENSIONS.items()}


class Filters(TypedDict, total=False):
    """The captures that meet all conditions that are given; a value of None is no condition.

    Attributes:
        url_contains: a part of the URL; case-sensitive, and no character has a special meaning.
        host: the host of the URL, without a port. Captures of versions without hosts are found
            after `imgcache upgrade`.
        bucket: the bucket.
        client_name: the client that fetched the image; in a crawl, the spider.
        content_type: the type of the image, `image/jpeg`, or `jpeg` for short.
        since: fetched at this time or later; a time without an offset is UTC.
        until: fetched before this time.
        min_width: width of the image in pixels; images without a known size are left out.
        min_height: height of the image in pixels.
        min_bytes: size of the image in bytes.
        max_bytes: size of the image in bytes.
        damaged: True for damaged images only, False for the others only.
        page_url: used on this page, as far as uses were recorded.
        job: used last by this job of a spider.
    """

    url_contains: str | None
    host: str | None
    bucket: str | None
    client_name: str | None
    content_type: str | None
    since: datetime | str | None
    until: datetime | str | None
    min_width: int | None
    min_height: int | None
    min_bytes: int | None
    max_bytes: int | None
    damaged: bool | None
    page_url: str | None
    job: str | None


def checked_filters(filters: Mapping[str, Any]) -> Filters:
    """Return filters without those that are None; times are datetimes then.

    Raises:
        InvalidRequestError: there is no such filter, or a value is not valid.
    """
    unknown = filters.keys() - _CHECKS.keys()
    if unknown:
        raise InvalidRequestError(
            f"there is no filter {min(unknown)!r:.80}: the filters are {', '.join(_CHECKS)}"
        )
    found = {name: _CHECKS[name](each) for name, each in filters.items() if each is not None}
    return cast("Filters", found)


def _checked_host(host: object) -> str:
    return stored_host(checked_text("a host", host))


def full_type(content_type: object) -> str:
    """Return the content type for a name of it, such as `image/jpeg`, `jpeg` or `jpg`.

    Raises:
        InvalidRequestError: it is not a string, or too long.
    """
    text = checked_text("a content type", content_type).lower()
    return _TYPE_OF.get(text, text if "/" in text else f"image/{text}")


def _checked_number(name: str, number: object) -> int:
    if isinstance(number, int) and not isinstance(number, bool) and 0 <= number <= MAX_NUMBER:
        return number
    raise InvalidRequestError(f"{name} is a whole number from 0 on, not {number!r:.80}")


def _checked_damaged(damaged: object) -> bool:
    if isinstance(damaged, bool):
        return damaged
    raise InvalidRequestError(f"damaged is True or False, not {damaged!r:.80}")


_CHECKS: Mapping[str, Callable[[Any], Any]] = {
    "url_contains": partial(checked_text, "a part of a URL"),
    "host": _checked_host,
    "bucket": partial(checked_text, "a bucket"),
    "client_name": checked_client_name,
    "content_type": full_type,
    "since": checked_time,
    "until": checked_time,
    **{
        name: partial(_checked_number, name)
        for name in ("min_width", "min_height", "min_bytes", "max_bytes")
    },
    "damaged": _checked_damaged,
    "page_url": page_of,
    "job": partial(checked_text, "a job"),
}
