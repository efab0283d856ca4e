"""What a URL is to the cache: its key, and whether it can be fetched at all."""

from functools import lru_cache
from posixpath import basename
from urllib.parse import unquote, urlsplit

from w3lib.url import parse_data_uri, safe_url_string

from imgcache_scrapy.core.checks import checked_url
from imgcache_scrapy.core.entry import content_hash_of
from imgcache_scrapy.core.errors import InvalidRequestError
from imgcache_scrapy.core.limits import MAX_FILENAME


def cache_key(url: str) -> str:
    """Compute what `lookup` compares: the URL as a browser, and Scrapy, would request it.

    An item's spelling and the request's spelling of one URL share a key; the URL that is
    fetched is never altered.

    Args:
        url: any spelling of the URL.

    Returns:
        The key, which is its own key.

    Raises:
        InvalidRequestError: the value is not a string, fails `checked_url`, or is not a URL.
    """
    if not isinstance(url, str):
        raise InvalidRequestError(f"a URL must be a string, got {type(url).__name__}")
    return _cache_key(url)


# On its way an image's URL comes by several times.
@lru_cache(maxsize=256)
def _cache_key(url: str) -> str:
    try:
        return checked_url(safe_url_string(checked_url(url)))
    except ValueError as error:
        raise InvalidRequestError(f"{url!r:.80} is no URL: {error}") from error


def filename_of(url: str) -> str | None:
    """Take the last part of the URL's path, unquoted; None where there is none."""
    if url.startswith("data:"):
        return None
    # What is hidden by quoting must not lead to another folder, or end the name, either.
    name = basename(unquote(basename(urlsplit(url).path)).replace("\\", "/"))
    return "".join(char for char in name if char.isprintable())[:MAX_FILENAME] or None


def data_key(url: str) -> str:
    """Compute the key of a `data:` URL, `data:,blake2b-<hash>`: its picture's, not its text's.

    Raises:
        InvalidRequestError: it cannot be decoded.
    """
    try:
        return f"data:,blake2b-{content_hash_of(parse_data_uri(url).data)}"
    except ValueError as error:
        raise InvalidRequestError(f"{url!r:.80} cannot be decoded: {error}") from error


def fetchable(url: object) -> str:
    """Turn an item's spelling of an image URL into one that can be requested.

    Args:
        url: what the item's field held.

    Returns:
        The URL; `//host/path` becomes `https://host/path`.

    Raises:
        InvalidRequestError: it cannot be requested; the message says what to do.
    """
    if not isinstance(url, str):
        raise InvalidRequestError(f"an image URL must be a string, got {type(url).__name__}")
    stripped = url.strip()
    if stripped.startswith("//"):
        stripped = f"https:{stripped}"
    if stripped[:5].lower() == "data:":
        return stripped
    parts = urlsplit(cache_key(stripped))
    if not parts.scheme and not parts.netloc:
        raise InvalidRequestError(
            f"{url!r:.200} is relative: join it with its page in the spider, response.urljoin(url)"
        )
    if not parts.netloc and parts.scheme != "file":
        raise InvalidRequestError(f"{url!r:.200} names no host to fetch it from")
    return stripped
