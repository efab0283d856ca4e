"""Use: which page, item, spider and job used an image, and what they say about it."""

import json
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any, NamedTuple, Self, TypedDict

from imgcache_scrapy.core.checks import checked_hash, checked_text, checked_time, checked_url
from imgcache_scrapy.core.errors import InvalidRequestError
from imgcache_scrapy.core.image_url import ImageUrl
from imgcache_scrapy.core.keys import without_user
from imgcache_scrapy.core.limits import MAX_POSITION, MAX_USE_META
from imgcache_scrapy.core.urls import request_url, without_fragment

_TEXTS = ("item", "spider", "job", "alt", "caption")


class Use(TypedDict):
    """A use of an image, as a list has it; what is not known is None.

    Attributes:
        content_hash: the hash of the image.
        url: the URL of the image that was used last.
        key: its cache key.
        bucket: the name space of the captures.
        page_url: the page, without fragment, user and password.
        item: what identifies the item.
        spider: the name of the spider.
        job: the last job of the spider that used the image so.
        position: the place of the image in the item, from 1.
        alt: the alternative text of the image.
        caption: its caption.
        meta: further values of the item.
        first_used_at: when this use was recorded first, ISO 8601, UTC.
        used_at: when it was recorded last, ISO 8601, UTC.
    """

    content_hash: str
    url: str
    key: str
    bucket: str
    page_url: str | None
    item: str | None
    spider: str | None
    job: str | None
    position: int | None
    alt: str | None
    caption: str | None
    meta: dict[str, Any] | None
    first_used_at: str
    used_at: str


USE_FIELDS = tuple(Use.__annotations__)
"""The fields of a use."""


class NewUse(NamedTuple):
    """A use to record; its values are checked.

    Attributes:
        content_hash: the hash of the image.
        url: the URL of the image.
        key: its cache key.
        bucket: the name space of the captures.
        page_url: the page, as `page_of` returns it.
        item: what identifies the item.
        spider: the name of the spider.
        job: the job of the spider.
        position: the place of the image in the item, from 1.
        alt: the alternative text of the image.
        caption: its caption.
        meta: a JSON object.
        used_at: when it was used; None for now.
        first_used_at: when it was used first; None for the same time.
    """

    content_hash: str
    url: str
    key: str
    bucket: str = ""
    page_url: str | None = None
    item: str | None = None
    spider: str | None = None
    job: str | None = None
    position: int | None = None
    alt: str | None = None
    caption: str | None = None
    meta: str | None = None
    used_at: datetime | None = None
    first_used_at: datetime | None = None

    @classmethod
    def of(cls, url: ImageUrl, values: Mapping[str, Any]) -> Self:
        """Check the values of a use.

        Args:
            url: the URL of the image, with its key.
            values: the other fields of a `Use`; those that are missing or None are not known.

        Raises:
            InvalidRequestError: there is no such field, or a value is not valid.
        """
        unknown = values.keys() - USE_FIELDS
        if unknown:
            raise InvalidRequestError(f"a use has no field {min(map(str, unknown))!r:.80}")
        page_url, position = values.get("page_url"), values.get("position")
        if position is not None and (type(position) is not int or not 0 < position <= MAX_POSITION):
            raise InvalidRequestError(f"a position is a number from 1 on, not {position!r:.80}")
        return cls(
            checked_hash(values.get("content_hash")),
            url.url,
            url.key,
            checked_text("a bucket", values.get("bucket") or ""),
            None if page_url is None else page_of(page_url),
            position=position,
            meta=meta_text(values.get("meta")),
            used_at=checked_time(values.get("used_at")),
            first_used_at=checked_time(values.get("first_used_at")),
            **{name: _text(name, values) for name in _TEXTS},
        )

    @property
    def identity(self) -> tuple[str, ...]:
        """What tells uses apart: another use with the same identity renews this one.

        Neither the job nor the URL belongs to it: each crawl has another job, and a signed URL
        another signature.
        """
        return (
            self.content_hash,
            self.bucket,
            self.key,
            self.page_url or "",
            self.item or "",
            self.spider or "",
            str(self.position or ""),
        )

    @property
    def characters(self) -> int:
        """The number of characters in its texts."""
        return sum(len(each) for each in self if isinstance(each, str))

    def fields(self) -> dict[str, Any]:
        """Return what is known, as JSON has it."""
        found = {name: each for name, each in self._asdict().items() if each is not None}
        if self.meta is not None:
            found["meta"] = json.loads(self.meta)
        for name in ("used_at", "first_used_at"):
            if name in found:
                found[name] = found[name].isoformat()
        return found


def page_of(url: object) -> str:
    """Return the URL of a page as uses have it: without fragment, user and password.

    Raises:
        InvalidRequestError: the value is no string that may be a URL.
    """
    if not isinstance(url, str):
        raise InvalidRequestError(f"the URL of a page must be a string, got {type(url).__name__}")
    try:
        page = without_fragment(checked_url(url))
    except UnicodeEncodeError as error:
        raise InvalidRequestError(f"the URL of a page must not have {error.reason}") from error
    # Any other text names a page, too.
    with suppress(InvalidRequestError):
        page = without_user(request_url(url))
    return checked_url(page)


def meta_text(meta: object) -> str | None:
    """Return further values of an item as JSON; None if there are none.

    Raises:
        InvalidRequestError: it is no object, or larger than `MAX_USE_META`.
    """
    if not meta:
        return None
    try:
        text = json.dumps(meta, ensure_ascii=False, allow_nan=False)
        text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidRequestError(f"meta must be a JSON object: {error}"[:200]) from error
    if not isinstance(meta, dict):
        raise InvalidRequestError(f"meta must be a JSON object, got {type(meta).__name__}")
    if len(text) > MAX_USE_META:
        raise InvalidRequestError(f"meta must not be longer than {MAX_USE_META} characters")
    return text


def _text(name: str, values: Mapping[str, Any]) -> str | None:
    value = values.get(name)
    return None if value is None or value == "" else checked_text(name, value)
