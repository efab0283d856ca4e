"""What stands before the routes: the token, and bounds on the bodies of requests."""

import asyncio
from hmac import compare_digest

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from imgcache_scrapy.core.errors import UnauthorizedError
from imgcache_scrapy.core.limits import MAX_BATCH_BYTES, MAX_IMAGE_BYTES
from imgcache_scrapy.server.problems import problem

MAX_BODY_BYTES = MAX_IMAGE_BYTES + 2**20
"""An image, and what a form holds beside it."""

BODY_SECONDS = 30
"""A body that takes longer is given up."""

_IMAGE = (MAX_BODY_BYTES, f"an image must not be larger than {MAX_IMAGE_BYTES} bytes")
_JSON = (MAX_BATCH_BYTES, f"a batch must not be larger than {MAX_BATCH_BYTES} bytes")

# Of all requests together, from the first byte that came to the answer.
_MAX_HELD_BYTES = 4 * MAX_IMAGE_BYTES


class TokenRequired:
    """Refuses requests without the bearer token, except for `/health`.

    Args:
        app: answers the others.
        token: printable ASCII.
    """

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._token = token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 401."""
        if scope["type"] == "http" and scope["path"] != "/health":
            scheme, _, given = Headers(scope=scope).get("authorization", "").partition(" ")
            is_right = compare_digest(given.encode("latin-1"), self._token)
            if scheme.lower() != "bearer" or not is_right:
                answer = problem(
                    UnauthorizedError.code,
                    UnauthorizedError.status,
                    "this cache wants its token: Authorization: Bearer …",
                    {"WWW-Authenticate": "Bearer"},
                )
                return await answer(scope, receive, send)
        return await self._app(scope, receive, send)


class BoundedBodies:
    """Bounds how large a body is, how long it takes, and how much all of them hold.

    Counts what really comes, whatever a Content-Length says.

    Args:
        app: reads the bodies.
        seconds: for a whole body.
    """

    def __init__(self, app: ASGIApp, seconds: float = BODY_SECONDS) -> None:
        self._app = app
        self._seconds = seconds
        self._held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, with a body that ends with an `HTTPException` at a bound."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        bound = _IMAGE if scope["path"] == "/images" else _JSON
        body = _Body(receive, asyncio.get_running_loop().time() + self._seconds, *bound)

        async def bounded() -> Message:
            size = body.size
            try:
                return await body.receive()
            finally:
                self._held += body.size - size
                if self._held > _MAX_HELD_BYTES:
                    raise HTTPException(503, "too many uploads at once")

        try:
            return await self._app(scope, bounded, send)
        finally:
            self._held -= body.size


class _Body:
    def __init__(self, receive: Receive, deadline: float, limit: int, refusal: str) -> None:
        self._receive = receive
        self._deadline = deadline
        self._limit = limit
        self._refusal = refusal
        self._is_complete = False
        self.size = 0

    async def receive(self) -> Message:
        if self._is_complete:
            return await self._receive()
        try:
            async with asyncio.timeout_at(self._deadline):
                message = await self._receive()
        except TimeoutError as error:
            raise HTTPException(408, "the body of the request came too slowly") from error
        self._is_complete = not message.get("more_body", False)
        self.size += len(message.get("body", b""))
        if self.size > self._limit:
            raise HTTPException(413, self._refusal)
        return message
