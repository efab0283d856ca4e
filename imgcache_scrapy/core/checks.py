"""Check arguments: each function returns a valid value or raises an error with the reason."""

import re
from datetime import UTC, datetime

from imgcache_scrapy.core.entry import is_content_hash
from imgcache_scrapy.core.errors import ConfigurationError, InvalidRequestError
from imgcache_scrapy.core.limits import (
    MAX_HOST,
    MAX_LABEL,
    MAX_LIMIT,
    MAX_TEXT,
    MAX_URL_BYTES,
    PERCEPTUAL_HASH_BITS,
    PERCEPTUAL_HASH_PATTERN,
)
from imgcache_scrapy.core.text import quoted

# Where the parsers of URLs find the host, after they have removed these characters.
_REMOVED = dict.fromkeys(map(ord, "\t\n\r"))
_AUTHORITY = re.compile(r"[\0- ]*(?:[a-z][a-z0-9+.-]*:)?[/\\]{2}([^/\\?#]*)", re.IGNORECASE)
_DOTS = re.compile("[.\u3002\uff0e\uff61]")


def checked_text(what: str, text: object) -> str:
    """Check a text that will be stored in the catalog.

    Args:
        what: the name of the argument, for the message.
        text: the text.

    Raises:
        InvalidRequestError: the value is not a string, is longer than `MAX_TEXT`, or contains a
            NUL character or a lone surrogate.
    """
    if not isinstance(text, str):
        raise InvalidRequestError(f"{what} must be a string, got {type(text).__name__}")
    if len(text) > MAX_TEXT:
        raise InvalidRequestError(f"{what} must not be longer than {MAX_TEXT} characters")
    if "\0" in text or not _is_encodable(text):
        raise InvalidRequestError(
            f"{what} must contain neither a NUL character nor a lone surrogate: {text!r:.80}"
        )
    return text


def cleaned(text: str, max_characters: int = MAX_TEXT) -> str:
    """Return the start of a text of any origin, without what `checked_text` refuses."""
    text = text[:max_characters]
    if text.isascii() and "\0" not in text:
        return text
    return text.encode("utf-8", "ignore").decode().replace("\0", "")


def checked_client_name(name: object) -> str:
    """Check the name of a client.

    Raises:
        InvalidRequestError: the name fails `checked_text`, or is empty.
    """
    text = checked_text("a client's name", name)
    if not text:
        raise InvalidRequestError("a client's name must not be empty")
    return text


def checked_url(url: str) -> str:
    """Check a URL that will be stored in the catalog.

    Raises:
        InvalidRequestError: the URL is empty, contains a NUL character, is longer than
            `MAX_URL_BYTES`, or has a host with other letters than ASCII that is too long for one.
        UnicodeEncodeError: the URL contains a lone surrogate.
    """
    if not url or url.isspace():
        raise InvalidRequestError("a URL must not be empty")
    if "\0" in url:
        raise InvalidRequestError(f"a URL must not contain a NUL character: {quoted(url)}")
    if (len(url) if url.isascii() else len(url.encode())) > MAX_URL_BYTES:
        raise InvalidRequestError(f"a URL must not be longer than 64 KiB: {quoted(url)}")
    if not url.isascii() and _has_long_host(url):
        raise InvalidRequestError(f"the host of this URL is too long: {quoted(url)}")
    return url


def _has_long_host(url: str) -> bool:
    """Return whether a host is so long that its ASCII form would take minutes to compute."""
    match = _AUTHORITY.match(url.translate(_REMOVED))
    if match is None or match[1].isascii():
        return False
    labels = _DOTS.split(match[1].rpartition("@")[2])
    return len(match[1]) > MAX_HOST or max(map(len, labels)) > MAX_LABEL


def checked_key(key: object) -> str:
    """Check a cache key that the caller named.

    Raises:
        InvalidRequestError: the value is not a string, is empty, is longer than `MAX_URL_BYTES`,
            or contains a NUL character or a lone surrogate.
    """
    if not isinstance(key, str):
        raise InvalidRequestError(f"a cache key must be a string, got {type(key).__name__}")
    try:
        return checked_url(key)
    except UnicodeEncodeError as error:
        raise InvalidRequestError(f"{quoted(key)} is not a cache key: {error.reason}") from error


def checked_hash(content_hash: object) -> str:
    """Check a content hash.

    Raises:
        InvalidRequestError: the value is not 64 hex digits in lower case.
    """
    if not isinstance(content_hash, str) or not is_content_hash(content_hash):
        raise InvalidRequestError(f"a content hash is 64 hex digits, not {content_hash!r:.100}")
    return content_hash


def checked_perceptual_hash(perceptual_hash: object) -> str:
    """Check a perceptual hash.

    Raises:
        InvalidRequestError: the value is not 16 hex digits in lower case.
    """
    if not isinstance(perceptual_hash, str) or not re.fullmatch(
        PERCEPTUAL_HASH_PATTERN, perceptual_hash
    ):
        raise InvalidRequestError(
            f"a perceptual hash is 16 hex digits, not {perceptual_hash!r:.100}"
        )
    return perceptual_hash


def checked_distance(distance: int) -> int:
    """Check a distance between perceptual hashes.

    Raises:
        InvalidRequestError: the value is not a number of bits from 0 to 64.
    """
    if distance not in range(PERCEPTUAL_HASH_BITS + 1):
        raise InvalidRequestError(f"a distance is 0 to 64 bits, not {distance!r:.100}")
    return distance


def checked_limit(limit: int | None) -> int | None:
    """Check the maximum length of a list.

    Raises:
        InvalidRequestError: the value is neither None nor a whole number from 1 to `MAX_LIMIT`.
    """
    if limit is None or (isinstance(limit, int) and 1 <= limit <= MAX_LIMIT):
        return limit
    raise InvalidRequestError(f"a limit is a whole number from 1 on, not {limit!r:.100}")


def checked_position(after: str | None, pattern: str) -> str | None:
    """Check the position after which a list begins; an empty one is none.

    Args:
        after: the position.
        pattern: the regular expression of such positions.

    Raises:
        InvalidRequestError: the value is no such position.
    """
    if not after or re.fullmatch(pattern, checked_text("a position", after)):
        return after or None
    raise InvalidRequestError(
        f"{quoted(after)} is not a position: give the `after` of the list before"
    )


def checked_time(time: datetime | str | None) -> datetime | None:
    """Check a time; a time without an offset is taken as UTC.

    Raises:
        InvalidRequestError: the value is neither a `datetime` nor a string of ISO 8601.
    """
    if time is None:
        return None
    try:
        moment = time if isinstance(time, datetime) else datetime.fromisoformat(time)
    except (TypeError, ValueError) as error:
        raise InvalidRequestError(
            f"a time is a datetime or a text such as 2026-01-31T12:00:00, not {time!r:.100}"
        ) from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def checked_token(token: str | None) -> str | None:
    """Check a token, which is sent in a header.

    Raises:
        ConfigurationError: it is no text, or contains a character that is not printable ASCII.
    """
    if token is None or (isinstance(token, str) and token.isascii() and token.isprintable()):
        return token
    raise ConfigurationError("a token is made of printable ASCII characters")


def checked_timeout(seconds: float | None) -> float | None:
    """Check the seconds that a call may take; None for no limit.

    Raises:
        ConfigurationError: it is neither a number above 0 nor None.
    """
    if seconds is None:
        return None
    if isinstance(seconds, (int, float)) and not isinstance(seconds, bool) and seconds > 0:
        return seconds
    raise ConfigurationError(
        f"a timeout is a number of seconds above 0, or None, not {seconds!r:.80}"
    )


def _is_encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
