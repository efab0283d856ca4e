"""Middleware that limits the bodies of requests."""

import asyncio

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from imgcache_scrapy.core.limits import MAX_BATCH_BYTES, MAX_IMAGE_BYTES

MAX_BODY_BYTES = MAX_IMAGE_BYTES + 2**20
"""Maximum size of an upload: an image and the other fields of the form."""

BODY_SECONDS = 30
"""Maximum time in seconds for receiving a body."""

_IMAGE_LIMIT = (MAX_BODY_BYTES, f"an image must not be larger than {MAX_IMAGE_BYTES} bytes")
_JSON_LIMIT = (MAX_BATCH_BYTES, f"a batch must not be larger than {MAX_BATCH_BYTES} bytes")

# Of all requests together, from the first byte of their bodies until they are answered.
_MAX_BYTES_IN_MEMORY = 4 * MAX_IMAGE_BYTES
# Smaller bodies have some memory of their own: a few large ones must not keep them out.
_SMALL_BYTES = 2 * 2**20
_BYTES_FOR_SMALL = 64 * 2**20


class BodyLimitMiddleware:
    """Limits the size of each body, the time to receive it, and the memory of all bodies together.

    It counts the received bytes, because a Content-Length may be wrong.

    Args:
        app: reads the bodies.
        seconds: maximum time for receiving a body.
    """

    def __init__(self, app: ASGIApp, seconds: float = BODY_SECONDS) -> None:
        self._app = app
        self._seconds = seconds
        self._bytes_in_memory = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on; receiving its body raises `HTTPException` beyond a limit."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        limit = _IMAGE_LIMIT if scope["path"] == "/images" else _JSON_LIMIT
        body = _Body(receive, asyncio.get_running_loop().time() + self._seconds, *limit)

        async def limited_receive() -> Message:
            size = body.size
            try:
                message = await body.receive()
            finally:
                self._bytes_in_memory += body.size - size
            own = _BYTES_FOR_SMALL if body.size <= _SMALL_BYTES else 0
            if self._bytes_in_memory > _MAX_BYTES_IN_MEMORY + own:
                raise HTTPException(503, "too many uploads at the same time: try again later")
            return message

        try:
            return await self._app(scope, limited_receive, send)
        finally:
            self._bytes_in_memory -= body.size


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
            raise HTTPException(408, "the body of the request arrived too slowly") from error
        self._is_complete = not message.get("more_body", False)
        self.size += len(message.get("body", b""))
        if self.size > self._limit:
            raise HTTPException(413, self._refusal)
        return message
