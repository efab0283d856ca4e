"""Hosts: check the hosts that users give, and find the rule for a host among those of settings."""

import re
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from imgcache_scrapy.core.errors import ConfigurationError, InvalidRequestError
from imgcache_scrapy.core.text import quoted
from imgcache_scrapy.core.urls import host_of, request_url

EVERY_HOST = "*"
"""Stands for every host in settings."""

HOST_PATTERN = (
    r"^(?:[^\s\x00-\x20\x7f\x85/?#@:\[\]\\]*|\[?[0-9A-Fa-f]*:[0-9A-Fa-f]*:[0-9A-Fa-f:.]*\]?)$"
)
"""What `stored_host` accepts, without blanks around it: a name, or an IPv6 address."""
_HOST = re.compile(HOST_PATTERN)


def checked_host(host: Any) -> str:
    """Return a host of the settings as it is in keys.

    Raises:
        ConfigurationError: it is neither a host nor `EVERY_HOST`.
    """
    if host == EVERY_HOST:
        return EVERY_HOST
    with suppress(InvalidRequestError):
        parts = urlsplit(request_url(f"http://{host}/"))
        if isinstance(host, str) and parts.netloc == parts.hostname and parts.path == "/":
            return parts.netloc
    raise ConfigurationError(
        f"{quoted(host)} is not a host: write example.com, or * for every host"
    )


def stored_host(host: str) -> str:
    """Return a host as catalogs have it: in lower case, with the ASCII letters of its name.

    Args:
        host: the host; an IPv6 address may have brackets. `data:` URLs have an empty one.

    Returns:
        The host. A name that no URL can have is returned in lower case.

    Raises:
        InvalidRequestError: it is more than a host, such as a URL or a host with a port.
    """
    name = host.strip().lower()
    if not _HOST.fullmatch(name) or (host and not name):
        raise InvalidRequestError(
            f"{quoted(host)} is not a host: write example.com, without a scheme, a port or a path"
        )
    # Any ASCII name that is the host of a URL is found, also if no site should have it.
    if name.isascii() and name in {host_of(f"http://{name}/"), host_of(f"http://[{name}]/")}:
        return name
    with suppress(InvalidRequestError):
        url = request_url(f"http://{name}/")
        found = host_of(url)
        if found and url in {f"http://{found}/", f"http://[{found}]/"}:
            return found
    return name


def hosts_with_rules(host: str) -> list[str]:
    """Return the hosts whose rules hold for a host: itself, its parents, and `EVERY_HOST` last."""
    labels = host.split(".")
    return [*(".".join(labels[start:]) for start in range(len(labels))), EVERY_HOST]
