"""Middleware that checks the token of a service, and what stands for it in a browser."""

import html
import math
import re
from datetime import UTC, datetime
from hmac import compare_digest
from http import HTTPStatus
from urllib.parse import quote

from starlette.datastructures import Headers, QueryParams
from starlette.requests import HTTPConnection
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from imgcache_scrapy.core.errors import UnauthorizedError
from imgcache_scrapy.core.signed_links import is_signed
from imgcache_scrapy.server.origins import is_page
from imgcache_scrapy.server.problems import problem
from imgcache_scrapy.server.sessions import Sessions
from imgcache_scrapy.server.throttle import Throttle

SIGN_IN = "/ui/sign-in"
"""The path of the page to sign in."""

# What a browser that has not signed in may ask for.
_OPEN_PATHS = frozenset({"/health", SIGN_IN})
_OPEN_BELOW = "/ui/static/"
_READING = frozenset({"GET", "HEAD"})
_NOT_KEPT = {"Cache-Control": "no-store"}
_POLICY = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
_DOCS = frozenset({"/docs", "/openapi.json"})
_IMAGE_PATH = re.compile(r"/(images|serve|thumbnails)/([0-9a-f]{64})")


class TokenMiddleware:
    """Refuses requests without the bearer token.

    A program sends it in a header; after many wrong ones, its address must wait. A browser that has
    signed in sends a cookie in its place, which is good for the page and for reading images, never
    for the rest of the API. A signed link lets anybody read its image until it expires.

    Args:
        app: answers the other requests.
        token: the token, printable ASCII.
        sessions: checks the cookies.
    """

    def __init__(self, app: ASGIApp, token: str, sessions: Sessions) -> None:
        self._app = app
        self._token = token
        self._sessions = sessions
        # A short wait: where a proxy hides the addresses, it is one for all clients.
        self._throttle = Throttle(free=100, free_together=1000, interval=0.1, max_wait=30)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it; a browser is sent to the page to sign in."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        refusal = self._refusal(scope)
        if refusal is None:
            return await self._app(scope, receive, send)
        return await refusal(scope, receive, send)

    def _refusal(self, scope: Scope) -> Response | None:
        path, request = scope["path"], HTTPConnection(scope)
        if path in _OPEN_PATHS or path.startswith(_OPEN_BELOW):
            return None
        scheme, _, given = Headers(scope=scope).get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return self._refusal_of_token(given, request.client.host if request.client else "")
        if is_page(path):
            if self._has_signed_in(request):
                return None
            return _to_sign_in(scope) if _is_for_person(request) else _unauthorized()
        image = _IMAGE_PATH.fullmatch(path)
        if scope["method"] in _READING and (image is not None or path in _DOCS):
            is_link = image is not None and self._is_link(scope, image)
            return None if is_link or self._has_signed_in(request) else _unauthorized()
        return _unauthorized()

    def _refusal_of_token(self, given: str, address: str) -> Response | None:
        wait = self._throttle.seconds_to_wait(address)
        if wait > 0:
            return problem(
                UnauthorizedError.code,
                HTTPStatus.TOO_MANY_REQUESTS,
                f"too many wrong tokens: try again in {math.ceil(wait)} seconds",
                {"Retry-After": str(math.ceil(wait))},
            )
        if compare_digest(given.encode("latin-1"), self._token.encode()):
            self._throttle.note_success(address)
            return None
        self._throttle.note_failure(address)
        return _unauthorized()

    def _has_signed_in(self, request: HTTPConnection) -> bool:
        session = self._sessions.read(request.cookies, is_secure=is_secure(request))
        return session is not None and session.is_signed_in

    def _is_link(self, scope: Scope, image: re.Match[str]) -> bool:
        query = QueryParams(scope["query_string"])
        if image[1] != "serve" or "signature" not in query:
            return False
        return is_signed(self._token, image[2], query.multi_items(), datetime.now(UTC))


def is_secure(request: HTTPConnection) -> bool:
    """Return whether a request came by TLS, also through a proxy that the service trusts."""
    return bool(request.scope.get("scheme") == "https")


def local_path(text: str) -> str:
    """Return where a browser goes next: a page of this service, also if the text is another."""
    path = text.partition("?")[0]
    is_local = is_page(path) and path != SIGN_IN
    return text if is_local and re.fullmatch(r"[!-\[\]-~]{1,4000}", text) else "/"


def _unauthorized() -> Response:
    return problem(
        UnauthorizedError.code,
        UnauthorizedError.status,
        "this cache needs its token: send the header Authorization: Bearer …",
        {"WWW-Authenticate": "Bearer"},
    )


def _is_for_person(request: HTTPConnection) -> bool:
    return "text/html" in request.headers.get("accept", "")


def _to_sign_in(scope: Scope) -> Response:
    target = "/"
    if scope["method"] in _READING:
        query = scope["query_string"].decode("latin-1")
        target = quote(scope["path"]) + (f"?{query}" if query else "")
    there = local_path(target)
    headers = Headers(scope=scope)
    if headers.get("sec-fetch-site") in {"cross-site", "same-site"}:
        return _open_again(there)
    address = SIGN_IN if there == "/" else f"{SIGN_IN}?next={quote(there, safe='')}"
    return RedirectResponse(address, HTTPStatus.SEE_OTHER, _NOT_KEPT)


def _open_again(there: str) -> Response:
    """Let a browser open a page again that it has opened by a link on another site.

    It sends no cookie then, also if it has signed in, but it does if this page opens the other one.
    """
    refresh = f'<meta http-equiv="refresh" content="0; url={html.escape(there)}">'
    text = f"<!doctype html>\n<title>imgcache</title>\n{refresh}\n"
    return HTMLResponse(text, headers=_NOT_KEPT | {"Content-Security-Policy": _POLICY})
