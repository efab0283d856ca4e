"""Hosts: check the hosts in settings, and find the rule for a host among them."""

from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from imgcache_scrapy.core.errors import ConfigurationError, InvalidRequestError
from imgcache_scrapy.core.text import quoted
from imgcache_scrapy.core.urls import request_url

EVERY_HOST = "*"
"""Stands for every host in settings."""


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


def hosts_with_rules(host: str) -> list[str]:
    """Return the hosts whose rules hold for a host: itself, its parents, and `EVERY_HOST` last."""
    labels = host.split(".")
    return [*(".".join(labels[start:]) for start in range(len(labels))), EVERY_HOST]
