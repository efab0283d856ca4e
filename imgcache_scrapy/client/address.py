"""Parse the address of a cache: the URL of a service, or the folder of an embedded cache."""

import os
import re
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

from imgcache_scrapy.core.errors import ConfigurationError
from imgcache_scrapy.core.files import real_path
from imgcache_scrapy.core.text import printable, quoted
from imgcache_scrapy.core.urls import DEFAULT_PORTS

SERVICE_URL = "http://127.0.0.1:8010"
"""The default address of `imgcache serve`."""

_HOST_AND_PORT = re.compile(r"[\w.-]{2,}:\d+(?:/.*)?")
# Names of parameters in the URL of a database or an object store.
_SECRET = re.compile("pass|secret|token|key|sig|credential", re.IGNORECASE)


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
        raise ConfigurationError(
            f"{quoted(address)} is not an address: {printable(error)}"
        ) from error
    if parts.scheme in {"http", "https"}:
        if not host:
            raise ConfigurationError(f"{quoted(address)} has no host: use http://host:port")
        return None
    if parts.scheme == "file":
        if host not in {None, "localhost"}:
            raise ConfigurationError(f"{quoted(address)} has a host: use file:///folder")
        address = unquote(parts.path, errors="surrogateescape")
    if _HOST_AND_PORT.fullmatch(address):
        raise ConfigurationError(
            f"{quoted(address)} has no scheme: use http://{address} for a service, and ./{address} "
            "for a folder"
        )
    if "://" in address or not address.strip():
        raise ConfigurationError(
            f"{quoted(address)} is not a cache's address: use http(s)://host, file:///folder or a "
            "path"
        )
    return real_path(home_expanded(address))


def home_expanded(path: str | Path) -> Path:
    """Return a path with the home folder in place of `~` or `~user`.

    Raises:
        ConfigurationError: there is no such user.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise ConfigurationError(
            f"the home folder in {quoted(str(path))} is not known: write ./ before a folder"
        ) from error


def cache_name(address: str) -> str:
    """Return a name for the cache at an address: the same for every spelling of the address.

    Args:
        address: `http(s)://…`, `file:///folder` or a path.

    Returns:
        The address of a service, or the folder of an embedded cache; where the variables
        `IMGCACHE_DATABASE_URL` and `IMGCACHE_BLOBS_URL` replace its parts, their values. It
        contains no user, password or token.

    Raises:
        ConfigurationError: the address is not of a known kind.
    """
    folder = folder_of(address)
    if folder is None:
        return without_secrets(address)
    parts = [os.environ.get(f"IMGCACHE_{part}_URL") for part in ("DATABASE", "BLOBS")]
    # The name of a folder may be no Unicode, but that of a cache is written to JSON.
    place = os.fsencode(folder).decode(errors="backslashreplace")
    if not any(parts):
        return place
    return " ".join(without_secrets(part) if part else place for part in parts)


def without_secrets(address: str) -> str:
    """Return a URL without user, password, secret parameters and default port."""
    parts = urlsplit(address)
    host = parts.netloc.rpartition("@")[2].lower()
    host = host.removesuffix(f":{DEFAULT_PORTS.get(parts.scheme)}")
    parameters = [each for each in parse_qsl(parts.query) if not _SECRET.search(each[0])]
    query = f"?{urlencode(parameters)}" if parameters else ""
    return f"{parts.scheme}://{host}{parts.path.rstrip('/')}{query}"
