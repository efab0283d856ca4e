"""Normalize URLs as a browser requests them, and check whether a URL can be fetched."""

import re
from collections.abc import Iterable
from contextlib import suppress
from functools import lru_cache
from posixpath import basename
from urllib.parse import unquote, urlsplit

from w3lib.url import parse_data_uri, safe_url_string

from imgcache_scrapy.core.checks import checked_url
from imgcache_scrapy.core.entry import content_hash_of
from imgcache_scrapy.core.errors import InvalidRequestError
from imgcache_scrapy.core.limits import MAX_FILENAME, MAX_HOST, MAX_URL_BYTES
from imgcache_scrapy.core.text import printable, quoted

DEFAULT_PORTS = {"http": 80, "https": 443}
"""The port of each scheme, if a URL names none."""

# URLs that are their own keys, as most are: quoting them would take ten times as long.
_QUOTED = re.compile(
    r"https?://[a-z0-9.-]+(?::[1-9]\d{0,3}|:[1-5]\d{4})?"
    r"/[\w.~!$&'()*+,;=:@/%-]*(?:\?[\w.~!$&()*+,;=:@/?%-]+)?",
    re.ASCII,
)
_WITH_HOST = re.compile(r"\s*(?:data:|(?:[a-z][a-z0-9+.-]*:)?//[^/])", re.IGNORECASE)
_DATA_KEY = re.compile(r"data:,blake2b-[0-9a-f]{64}")


def request_url(url: str) -> str:
    """Return a URL as a browser or Scrapy would request it.

    The spelling in an item and the spelling in a request give the same URL, and so do URLs that
    differ in their fragment, which no request contains. For a `data:` URL it is `data_key`.

    Args:
        url: any spelling of the URL.

    Returns:
        The URL. The function does not change a URL that it has returned.

    Raises:
        InvalidRequestError: the value is not a string, fails `checked_url`, or is not a URL.
    """
    if not isinstance(url, str):
        raise InvalidRequestError(f"a URL must be a string, got {type(url).__name__}")
    if is_data_url(url):
        return url if _DATA_KEY.fullmatch(url) else data_key(url)
    return _request_url(url)


# The URL of one image is normalized several times during a crawl.
@lru_cache(maxsize=256)
def _request_url(url: str) -> str:
    if _is_quoted(url):
        return url
    try:
        key = without_fragment(safe_url_string(checked_url(url)))
        # A blank at the end of a host is only at the end of the URL once the fragment is gone.
        return checked_url(key if key[-1:] > " " else safe_url_string(key))
    except ValueError as error:
        raise InvalidRequestError(f"{quoted(url)} is not a URL: {printable(error)}") from error


def _is_quoted(url: str) -> bool:
    """Return whether a URL is absolute, and `request_url` would not change it."""
    return len(url) <= MAX_URL_BYTES and _QUOTED.fullmatch(url) is not None


def request_urls(urls: Iterable[str]) -> dict[str, str]:
    """Normalize the URLs of a page.

    Args:
        urls: the URLs.

    Returns:
        The `request_url` of each URL; those that have none, such as empty ones, are left out.

    Raises:
        InvalidRequestError: the value is a single string, or no iterable.
    """
    if isinstance(urls, (str, bytes)) or not isinstance(urls, Iterable):
        raise InvalidRequestError(f"URLs must be a list of strings, got {type(urls).__name__}")
    found = {}
    for url in urls:
        with suppress(InvalidRequestError):
            found[url] = request_url(url)
    return found


def without_fragment(url: str) -> str:
    """Return a URL without its fragment; a `data:` URL has none."""
    return url if "#" not in url or is_data_url(url) else url.partition("#")[0]


def host_of(url: str) -> str:
    """Return the host of a URL in lower case; an empty string if it has none."""
    try:
        return (urlsplit(url).hostname or "")[:MAX_HOST]
    except ValueError:
        return ""


def is_data_url(url: str) -> bool:
    """Return whether the bytes of the image are in the URL itself."""
    return url.lstrip()[:5].lower() == "data:"


def filename_of(url: str) -> str | None:
    """Return the last part of the URL's path, unquoted; None if it is empty or has no path."""
    if is_data_url(url):
        return None
    try:
        path = urlsplit(url).path
    except ValueError:  # Over REST, any text is a URL.
        return None
    # Unquoting can reveal slashes and control characters.
    return clean_filename(unquote(basename(path)))


def clean_filename(name: str) -> str | None:
    """Return a file name without folders and control characters; None if nothing is left."""
    last = "".join(char for char in basename(name.replace("\\", "/")) if char.isprintable())
    return None if last in {"", ".", ".."} else last[:MAX_FILENAME]


def data_key(url: str) -> str:
    """Compute the key of a `data:` URL from its decoded bytes: `data:,blake2b-<hash>`.

    Raises:
        InvalidRequestError: the URL cannot be decoded.
    """
    return f"data:,blake2b-{content_hash_of(data_body(url))}"


def data_body(url: str) -> bytes:
    """Decode the bytes in a `data:` URL.

    Raises:
        InvalidRequestError: the URL cannot be decoded.
    """
    try:
        return parse_data_uri(url.strip()).data
    except ValueError as error:
        raise InvalidRequestError(f"{quoted(url)} cannot be decoded: {printable(error)}") from error


def fetchable(url: object) -> str:
    """Turn an image URL of an item into a URL that can be requested.

    Args:
        url: the value from the item's field.

    Returns:
        The URL; `//host/path` becomes `https://host/path`.

    Raises:
        InvalidRequestError: the URL cannot be requested; the message says what to do.
    """
    if not isinstance(url, str):
        raise InvalidRequestError(f"an image URL must be a string, got {type(url).__name__}")
    stripped = url.strip()
    if stripped.startswith("//"):
        stripped = f"https:{stripped}"
    if is_data_url(stripped) or _is_quoted(stripped):
        return stripped
    parts = urlsplit("" if stripped.startswith("#") else request_url(stripped))
    if not parts.scheme and not parts.netloc:
        raise InvalidRequestError(
            f"{quoted(url, 200)} is relative: make it absolute in the spider with "
            "response.urljoin(url)"
        )
    if not parts.netloc and parts.scheme != "file":
        raise InvalidRequestError(f"{quoted(url, 200)} has no host name")
    return stripped


def downloadable(url: object) -> str:
    """Turn an image URL of any origin into one that a client can download.

    Args:
        url: the URL.

    Returns:
        The URL as it is requested, with user and password if it has them; a `data:` URL as it is.

    Raises:
        InvalidRequestError: it is no absolute URL of the kinds http, https and data.
    """
    if isinstance(url, str) and not _WITH_HOST.match(url):
        raise InvalidRequestError(f"{quoted(url, 200)} has no host: give a whole URL, https://…")
    found = fetchable(url)
    if is_data_url(found):
        return found
    found = request_url(found)
    if urlsplit(found).scheme not in DEFAULT_PORTS:
        raise InvalidRequestError(f"{quoted(url, 200)} cannot be fetched: only http and https can")
    return found
