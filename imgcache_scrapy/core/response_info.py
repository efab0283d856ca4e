"""ResponseInfo: what the site said about an image when it was fetched."""

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple, Self

from imgcache_scrapy.core.checks import checked_text
from imgcache_scrapy.core.errors import InvalidRequestError
from imgcache_scrapy.core.urls import request_url

KEPT_HEADERS = (
    "Content-Type",
    "ETag",
    "Last-Modified",
    "Expires",
    "Cache-Control",
    "Date",
    "Vary",
    "Content-Disposition",
    "Content-Language",
    "X-Robots-Tag",
    "Link",
)
"""The headers of a response that a capture keeps; the first ones are the most important."""
CONVERTED = "Imgcache-Converted"
"""The mark, kept like a header, of an image that a program made from the bytes of the site."""
STORED_HEADERS = (CONVERTED, *KEPT_HEADERS)
"""The names in the headers of a capture."""
MAX_HEADER_CHARACTERS = 4096
"""Maximum characters of the names and values of all these headers together."""

_CONTROLS = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
_KEPT = {name.lower(): name for name in STORED_HEADERS}
HeaderValue = str | Iterable[str]


class ResponseInfo(NamedTuple):
    """What the site said about an image.

    Attributes:
        headers: the headers of the response of `KEPT_HEADERS`.
        final_url: the URL that gave the image, if a redirect led there.
        accept: the header `Accept` of the request, if the response varies by it.
    """

    headers: Mapping[str, str] = {}
    final_url: str | None = None
    accept: str | None = None

    @classmethod
    def of(
        cls,
        url: str,
        headers: Mapping[str, HeaderValue] | None = None,
        final_url: str | None = None,
        accept: str | None = None,
    ) -> Self:
        """Keep what matters of a response.

        Args:
            url: the URL that was asked for, as `request_url` gives it.
            headers: the headers of the response, in any letter case.
            final_url: the URL of the response.
            accept: the header `Accept` of the request.

        Raises:
            InvalidRequestError: an argument is not valid.
        """
        kept = kept_headers({} if headers is None else headers)
        final = None if final_url is None else request_url(final_url)
        if accept is not None:
            checked_text("a header Accept", accept)
        return cls(
            kept,
            None if final == url else final,
            accept if varies_by_accept(kept) else None,
        )


NO_RESPONSE = ResponseInfo()
"""Nothing is known of the response."""


def kept_headers(headers: Mapping[str, HeaderValue]) -> dict[str, str]:
    """Return the headers of `STORED_HEADERS`, as far as they fit in `MAX_HEADER_CHARACTERS`.

    Args:
        headers: names, in any letter case, and values; several values are joined by commas.

    Raises:
        InvalidRequestError: they are no mapping, or a name or a value is no text.
    """
    if not hasattr(headers, "items"):  # The headers of some libraries are no Mapping.
        raise InvalidRequestError(f"headers must be a mapping, got {type(headers).__name__}")
    given = {}
    for name, value in headers.items():
        if not isinstance(name, str):
            raise InvalidRequestError(f"the name of a header must be a string, got {name!r:.80}")
        if name.lower() in _KEPT:
            given[_KEPT[name.lower()]] = _text(name, value)
    kept, room = {}, MAX_HEADER_CHARACTERS
    for name in STORED_HEADERS:
        size = len(name) + len(given.get(name, ""))
        if name in given and size <= room:
            kept[name] = given[name]
            room -= size
    return kept


def is_converted(headers: Mapping[str, str]) -> bool:
    """Return whether the headers of a capture have the mark of an image that was converted."""
    return CONVERTED in headers


def varies_by_accept(headers: Mapping[str, str]) -> bool:
    """Return whether the response depends on the request's header `Accept`: see its `Vary`."""
    return "accept" in {part.strip().lower() for part in headers.get("Vary", "").split(",")}


def _text(name: str, value: HeaderValue) -> str:
    values = [value] if isinstance(value, str) or not isinstance(value, Iterable) else value
    for each in values:
        if not isinstance(each, str):
            raise InvalidRequestError(f"the header {name} must be a string, got {each!r:.80}")
    # Control characters could end the line of a header. Those from 0x80 on stay: UTF-8 that is
    # read as Latin-1 has them.
    return _CONTROLS.sub("", ", ".join(values)).strip(" ")
