"""Write values as people read them: sizes, times, names and addresses."""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from imgcache_scrapy.core.entry import UNKNOWN_TYPE
from imgcache_scrapy.core.formats import EXTENSIONS

_UNITS = ("B", "KB", "MB", "GB", "TB", "PB")
_STEP = 1000
_MAX_LINK = 8192
# What is wrong with a value, by the type of the error that pydantic found.
_REFUSALS = {
    "missing": "is missing",
    "bool_parsing": "must be 0 or 1",
    "int_parsing": "is not a whole number",
    "int_parsing_size": "is not a whole number, or too large",
    "greater_than_equal": "must not be smaller than {ge}",
    "less_than_equal": "must not be larger than {le}",
    "literal_error": "must be {expected}",
    "string_pattern_mismatch": "is not one that a page of this service gives",
    "string_too_long": "must not have more than {max_length} characters",
    "datetime_from_date_parsing": "is not a date such as 2026-01-31",
}


def size(count: float) -> str:
    """Return a number of bytes with a unit: `1.4 MB`."""
    unit = 0
    while count >= _STEP and unit < len(_UNITS) - 1:
        count, unit = count / _STEP, unit + 1
    digits = 0 if unit == 0 or count >= 100 else 1  # noqa: PLR2004 - three digits are enough
    return f"{count:.{digits}f} {_UNITS[unit]}"


def size_and_bytes(count: int) -> str:
    """Return a number of bytes with a unit, and to the byte: `1.4 MB (1 400 123 B)`."""
    return size(count) if count < _STEP else f"{size(count)} ({number(count)} B)"


def number(count: int) -> str:
    """Return a number with thin spaces between thousands."""
    return f"{count:,}".replace(",", "\u202f")


def pixels(width: int | None, height: int | None) -> str | None:
    """Return a size in pixels; None if it is not known."""
    return None if width is None else f"{width} \u00d7 {height}"


def time(iso: str) -> str:
    """Return a time, ISO 8601 in UTC, to the minute: `2026-11-27 13:05`."""
    return iso[:16].replace("T", " ")


def kind(content_type: str) -> str:
    """Return a content type in few letters: `JPEG`."""
    if content_type == UNKNOWN_TYPE:
        return "unknown"
    return EXTENSIONS.get(content_type, content_type.rpartition("/")[2]).upper()


def link(url: str) -> str | None:
    """Return a URL that a browser may open; None for one that is not of the web, or too long."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    is_web = parts.scheme in {"http", "https"} and bool(parts.netloc)
    return url if is_web and len(url) <= _MAX_LINK else None


def short(text: str, length: int = 200) -> str:
    """Return a text that is at most `length` characters long, its middle left out."""
    if len(text) <= length:
        return text
    end = length // 4
    return f"{text[: length - end - 1]}…{text[-end:]}"


def address(path: str, query: Mapping[str, Any] | None = None, **changes: Any) -> str:
    """Return a path with a query; changes of None remove a parameter."""
    wanted = {**(query or {}), **changes}
    found = urlencode({k: v for k, v in wanted.items() if v is not None}, quote_via=quote)
    return f"{path}?{found}" if found else path


def sentence(detail: str) -> str:
    """Return the detail of an error as a sentence; it may begin with the name of a parameter."""
    is_name = re.match("[a-z_]+:", detail)
    return f"{detail if is_name else detail[:1].upper() + detail[1:]}."


def refusal(errors: Iterable[Mapping[str, Any]]) -> str:
    """Return what is wrong with an address, for each error that pydantic found in it."""
    return "; ".join(f"{each['loc'][-1]}: {_wrong(each)}" for each in errors)


def _wrong(error: Mapping[str, Any]) -> str:
    text = _REFUSALS.get(error["type"])
    if text is None:
        return str(error["msg"]).removeprefix("Value error, ")
    return text.format_map(error.get("ctx", {}))


FILTERS: Mapping[str, Callable[..., Any]] = {
    "kind": kind,
    "link": link,
    "number": number,
    "short": short,
    "size": size,
    "time": time,
}
"""The functions that templates call."""
