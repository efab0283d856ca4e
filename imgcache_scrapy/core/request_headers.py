"""Check the headers that a caller gives for a request to a site, and complete them."""

import re
from collections.abc import Mapping

from imgcache_scrapy.core.errors import InvalidRequestError
from imgcache_scrapy.core.text import quoted

RequestHeaders = tuple[tuple[bytes, bytes], ...]
"""The names and the values of the headers of a request."""

ANY_TYPE = "*/*"
"""The header `Accept` of a request for which the caller gives none."""

_DEFAULTS = {
    "User-Agent": "imgcache-scrapy",
    "Accept": ANY_TYPE,
    # These are decompressed in small parts, so that a body stays within its limit.
    "Accept-Encoding": "gzip, deflate",
}
_OF_BODIES = {"content-length", "transfer-encoding"}
# RFC 9110, 5.6.2 and 5.5.
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")


def request_headers(
    given: Mapping[str, str] | None, common: Mapping[str, str] | None = None
) -> RequestHeaders:
    """Return the headers of a request to a site.

    Args:
        given: the headers of the caller, which replace the others of the same name.
        common: the headers of all requests of the client, which replace the default ones.

    Raises:
        InvalidRequestError: they are not a mapping of strings, or one cannot be sent.
    """
    if given is not None and not isinstance(given, Mapping):
        raise InvalidRequestError(f"headers must be a mapping, got {type(given).__name__}")
    own = _over(common or {}, given or {})
    for name, value in own.items():
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise InvalidRequestError(f"{quoted(name)} is not the name of a header")
        if not isinstance(value, str) or not _VALUE.fullmatch(value):
            raise InvalidRequestError(f"the header {name} cannot be sent: its value is not Latin-1")
        if name.lower() in _OF_BODIES:
            raise InvalidRequestError(f"the header {name} cannot be sent: the request has no body")
    pairs = _over(_DEFAULTS, own).items()
    return tuple((name.encode("ascii"), value.strip().encode("latin-1")) for name, value in pairs)


def accept_of(headers: RequestHeaders) -> str:
    """Return the header `Accept` of a request."""
    return next(value for name, value in headers if name.lower() == b"accept").decode("latin-1")


def _over(defaults: Mapping[str, str], own: Mapping[str, str]) -> dict[str, str]:
    """Return headers, of which the own ones replace the default ones of the same name."""
    names = {name.lower() for name in own if isinstance(name, str)}
    kept = {name: value for name, value in defaults.items() if name.lower() not in names}
    return {**kept, **own}
