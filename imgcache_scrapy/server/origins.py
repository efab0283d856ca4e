"""Refuse requests that web pages of other sites make a browser send to the service."""

import asyncio
import functools
import re
import socket
from collections.abc import Collection, Iterable
from http import HTTPStatus
from ipaddress import ip_address
from typing import NamedTuple
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Receive, Scope, Send

from imgcache_scrapy.core.errors import ConfigurationError, HostError, UnauthorizedError
from imgcache_scrapy.core.text import quoted
from imgcache_scrapy.core.urls import DEFAULT_PORTS
from imgcache_scrapy.server.problems import problem

_HOST = re.compile(
    r"(?P<name>\[[0-9a-f:.]+\]|[^:\[\]/@\s]*)(?::(?P<port>[0-9]{0,5}))?", re.IGNORECASE
)
_NAME = re.compile(r"[a-z0-9._-]+|\[[0-9a-f:.]+\]")
# Names that no page of the internet can have.
_LOCAL_ENDINGS = (".localhost", ".local", ".internal")
_OPEN_PATHS = frozenset({"/health", "/metrics"})
# Paths that a person opens by a link on another site.
_OPENED = frozenset({"/", "/ui", "/docs"})
_OPENED_BELOW = ("/ui/", "/serve/")
_READING = frozenset({"GET", "HEAD"})
_CALLER_HEADERS = (b"origin", b"sec-fetch-site", b"sec-fetch-mode", b"sec-fetch-dest")


class Caller(NamedTuple):
    """What the headers of a request say about its sender.

    Attributes:
        method: the method of the request.
        path: the path of the request.
        hosts: the headers `Host`; a request of a browser has one.
        origin: the header `Origin`, which browsers send with each POST and DELETE.
        fetch_site: the header `Sec-Fetch-Site`, which browsers send to https and to this machine.
        fetch_mode: the header `Sec-Fetch-Mode`.
        fetch_destination: the header `Sec-Fetch-Dest`.
    """

    method: str = "GET"
    path: str = "/stats"
    hosts: Collection[str] = ("localhost",)
    origin: str | None = None
    fetch_site: str | None = None
    fetch_mode: str | None = None
    fetch_destination: str | None = None


def unknown_host(caller: Caller, known_names: frozenset[str]) -> str | None:
    """Return the host name of a request that may come from a page that rebinds DNS.

    Such a page makes a browser believe that the address of this service belongs to the page's own
    host name, which is a public one. A program may send no host.

    Args:
        caller: the sender of the request.
        known_names: the names of the service, in lower case.

    Returns:
        The first name that is public and not known; None if there is none.
    """
    if caller.path in _OPEN_PATHS:
        return None
    return next((host for host in caller.hosts if not _is_known(host, known_names)), None)


def is_foreign(
    caller: Caller, known_names: Collection[str], *, allows_embedding: bool = True
) -> bool:
    """Return whether a browser sends a request for a page of another site.

    Args:
        caller: the sender of the request.
        known_names: the names of the service, in lower case.
        allows_embedding: whether pages of any site may show what `/serve/` returns.
    """
    may_be_shown = allows_embedding and _may_be_shown(caller)
    if caller.path in _OPEN_PATHS or may_be_shown or _is_navigation(caller):
        return False
    if caller.fetch_site is not None:
        return caller.fetch_site not in {"same-origin", "none"}
    # Behind a proxy, the origin of the page may be another one. Its forms have a CSRF token.
    if caller.origin is None or is_page(caller.path):
        return False
    return not _is_own_origin(caller.origin, caller.hosts, known_names)


def is_page(path: str) -> bool:
    """Return whether a path is one of the pages for a browser."""
    return path in {"/", "/ui"} or path.startswith("/ui/")


def host_name(host: str) -> str:
    """Return the name in a host without its port, in lower case; "" if it is malformed."""
    match = _HOST.fullmatch(host)
    return "" if match is None else match["name"].lower().removesuffix(".")


def checked_host_name(name: str) -> str:
    """Check a name for `--allowed-host`; the name may have a port, which is ignored.

    Raises:
        ConfigurationError: the value is not the name of a host.
    """
    if not _NAME.fullmatch(host_name(name)):
        raise ConfigurationError(
            f"--allowed-host needs a name such as cache.example.com, not {quoted(name)}"
        )
    return host_name(name)


class OriginMiddleware:
    """Answers 421 to requests for an unknown host name, and 403 to requests of other sites' pages.

    Args:
        app: answers the other requests.
        allowed_hosts: names of the service, beside those that no public site can have.
        checks_host: whether to check the host name; a service with a token does not need it,
            because a page does not know the token.
        allows_embedding: as for `is_foreign`.
    """

    def __init__(
        self,
        app: ASGIApp,
        allowed_hosts: Iterable[str],
        *,
        checks_host: bool,
        allows_embedding: bool = True,
    ) -> None:
        self._app = app
        self._allows_embedding = allows_embedding
        self._names = frozenset(map(checked_host_name, allowed_hosts))
        self._checks_host = checks_host
        self._own_names: asyncio.Future[frozenset[str]] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 421 or 403."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        caller = _caller_of(scope)
        if self._checks_host and (host := await self._unknown_host(caller)) is not None:
            name = host_name(host) if _NAME.fullmatch(host_name(host)) else "NAME"
            answer = problem(
                HostError.code,
                HostError.status,
                f"this service does not have the name {quoted(host)}: start it with"
                f" --allowed-host {name}, or with a token",
            )
        elif is_foreign(caller, self._names, allows_embedding=self._allows_embedding):
            answer = problem(
                UnauthorizedError.code,
                HTTPStatus.FORBIDDEN,
                "a page of another site made this request: only programs and the pages of this"
                " service may make it",
            )
        else:
            return await self._app(scope, receive, send)
        return await answer(scope, receive, send)

    async def _unknown_host(self, caller: Caller) -> str | None:
        if unknown_host(caller, self._names) is None:
            return None
        # Asked for only now, because it may take seconds if a name server does not answer.
        if self._own_names is None:
            self._own_names = asyncio.ensure_future(asyncio.to_thread(own_names))
        own = await asyncio.shield(self._own_names)
        return unknown_host(caller, self._names | own)


@functools.cache
def own_names() -> frozenset[str]:
    """Return the names of this machine, in lower case."""
    return frozenset(name.lower() for name in (socket.gethostname(), socket.getfqdn()))


def _caller_of(scope: Scope) -> Caller:
    # In one pass, because every request pays for it.
    hosts: list[str] = []
    first: dict[bytes, str] = {}
    for name, value in scope["headers"]:
        if name == b"host":
            hosts.append(value.decode("latin-1"))
        elif name in _CALLER_HEADERS:
            first.setdefault(name, value.decode("latin-1"))
    return Caller(scope["method"], scope["path"], hosts, *map(first.get, _CALLER_HEADERS))


# Most requests have the same few hosts.
@functools.lru_cache(maxsize=16)
def _is_known(host: str, known_names: frozenset[str]) -> bool:
    name = host_name(host)
    if not name:
        return not host
    return (
        name in known_names or "." not in name or name.endswith(_LOCAL_ENDINGS) or _is_address(name)
    )


def _is_address(name: str) -> bool:
    try:
        ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True


def _may_be_shown(caller: Caller) -> bool:
    return caller.path.startswith("/serve/") and caller.method in _READING


def _is_navigation(caller: Caller) -> bool:
    return (
        caller.method == "GET"
        and (caller.path in _OPENED or caller.path.startswith(_OPENED_BELOW))
        and caller.fetch_mode == "navigate"
        and caller.fetch_destination in {None, "document"}
    )


def _is_own_origin(origin: str, hosts: Collection[str], known_names: Collection[str]) -> bool:
    try:
        parts = urlsplit(origin)
        port = parts.port or DEFAULT_PORTS[parts.scheme]
    except (ValueError, KeyError):  # An origin may be "null", too.
        return False
    name = host_name(parts.netloc)
    own = {(host_name(host), _port_of(host) or DEFAULT_PORTS[parts.scheme]) for host in hosts}
    return bool(name) and (name in known_names or (name, port) in own)


def _port_of(host: str) -> int | None:
    match = _HOST.fullmatch(host)
    return int(match["port"]) if match is not None and match["port"] else None
