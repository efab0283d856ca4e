"""Parse the address of a cache: the URL of a service, or the folder of an embedded cache."""

from pathlib import Path
from urllib.parse import unquote, urlsplit

from imgcache_scrapy.core.errors import ConfigurationError


def folder_of(address: str) -> Path | None:
    """Return the folder of an embedded cache.

    Args:
        address: `http(s)://…`, `file:///folder` or a path.

    Returns:
        The absolute folder; None if the address is that of a service.

    Raises:
        ConfigurationError: the address is not of a known kind.
    """
    try:
        parts = urlsplit(address)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise ConfigurationError(f"{address!r} is not an address: {error}") from error
    if parts.scheme in {"http", "https"}:
        if not host:
            raise ConfigurationError(f"{address!r} has no host: use http://host:port")
        return None
    if parts.scheme == "file":
        if host not in {None, "localhost"}:
            raise ConfigurationError(f"{address!r} has a host: use file:///folder")
        address = unquote(parts.path)
    if "://" in address or not address.strip():
        raise ConfigurationError(
            f"{address!r} is not a cache's address: use http(s)://host, file:///folder or a path"
        )
    return Path(address).expanduser().resolve()
