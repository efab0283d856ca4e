"""The address of a cache: a service's URL, or the folder of an embedded cache."""

from pathlib import Path
from urllib.parse import unquote, urlsplit

from imgcache_scrapy.core.errors import ConfigurationError


def folder_of(address: str) -> Path | None:
    """Return the folder of an embedded cache.

    Args:
        address: `http(s)://…`, `file:///folder` or a path.

    Returns:
        The absolute folder; None if the address is a service's.

    Raises:
        ConfigurationError: the address is of no known kind.
    """
    try:
        parts = urlsplit(address)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise ConfigurationError(f"{address!r} is no address: {error}") from error
    if parts.scheme in {"http", "https"}:
        if not host:
            raise ConfigurationError(f"{address!r} names no host: http://host:port is needed")
        return None
    if parts.scheme == "file":
        if host not in {None, "localhost"}:
            raise ConfigurationError(f"{address!r} names a host: file:///folder is needed")
        address = unquote(parts.path)
    if "://" in address or not address.strip():
        raise ConfigurationError(
            f"{address!r} is no address of a cache: http(s)://host, file:///folder or a path is"
        )
    return Path(address).expanduser().resolve()
