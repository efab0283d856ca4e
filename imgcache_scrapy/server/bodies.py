"""Send the bodies of answers with back-pressure, and bound the memory of all of them together."""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from imgcache_scrapy.core.errors import ImgCacheError

PART_BYTES = 2**17
"""Size of the parts in which a large image is read."""
WHOLE_BYTES = 2**20
"""Maximum size of an image that is read as a whole."""

# uvicorn waits before each piece until the client has read the one before, but for 64 KiB.
_PIECE_BYTES = 2**16
_MAX_BYTES = 32 * 2**20
_MAX_PARTS = 256

logger = logging.getLogger(__name__)


class AnswerMemory:
    """Bounds the memory for bodies, from the moment they are read until they are sent."""

    def __init__(self) -> None:
        self._free = _MAX_BYTES
        self._parts = asyncio.Semaphore(_MAX_PARTS)

    def reserve(self, size: int) -> bool:
        """Reserve memory for a body; return False if too much is used."""
        if size > self._free:
            return False
        self._free -= size
        return True

    def release(self, size: int) -> None:
        """Release reserved memory."""
        self._free += size

    async def limited(self, parts: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
        """Read parts of images; while there are too many in memory, wait before the next one."""
        while True:
            async with self._parts:
                part = await anext(parts, None)
                if part is None:
                    return
                yield part


class StreamedResponse(Response):
    """An answer that sends its body in pieces, each when the client has read the one before.

    Args:
        parts: the parts of the body; if reading them fails, the connection is closed.
        size: the number of bytes in all parts.
        status_code: the HTTP status.
        headers: additional headers.
        media_type: the content type.
        on_end: called when the answer is sent, or when it ends for another reason.
    """

    def __init__(
        self,
        parts: AsyncGenerator[bytes, None],
        size: int,
        status_code: int = 200,
        *,
        headers: Mapping[str, str],
        media_type: str,
        on_end: Callable[[], None] = lambda: None,
    ) -> None:
        length = {"Content-Length": str(size)}
        super().__init__(None, status_code, {**headers, **length}, media_type)
        self._parts = parts
        self._on_end = on_end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the answer."""
        start = {"type": "http.response.start", "status": self.status_code}
        try:
            await send({**start, "headers": self.raw_headers})
            if scope["method"] != "HEAD":
                await self._send_parts(Request(scope, receive), send)
            await send({"type": "http.response.body"})
        except ImgCacheError as error:
            # Without its end, the client sees that the answer is not complete.
            logger.warning("An image could not be sent to its end: %s", error)
        finally:
            self._on_end()

    async def _send_parts(self, request: Request, send: Send) -> None:
        async with aclosing(self._parts) as parts:
            async for part in parts:
                for start in range(0, len(part), _PIECE_BYTES):
                    piece = part[start : start + _PIECE_BYTES]
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
                if len(part) == PART_BYTES and await request.is_disconnected():
                    return


def whole_response(
    memory: AnswerMemory,
    data: bytes,
    status_code: int = 200,
    *,
    headers: Mapping[str, str],
    media_type: str,
    reserved: int,
) -> Response:
    """Return an answer whose body is in memory.

    Args:
        memory: has the reservation.
        data: the body.
        status_code: the HTTP status.
        headers: additional headers.
        media_type: the content type.
        reserved: the number of bytes that are reserved, and released when the body is sent.
    """
    if len(data) <= _PIECE_BYTES:
        memory.release(reserved)
        return Response(data, status_code, dict(headers), media_type)

    async def parts() -> AsyncGenerator[bytes, None]:
        yield data

    return StreamedResponse(
        parts(),
        len(data),
        status_code,
        headers=headers,
        media_type=media_type,
        on_end=lambda: memory.release(reserved),
    )


def json_response(memory: AnswerMemory, data: bytes, headers: Mapping[str, str]) -> Response:
    """Return a JSON answer.

    Raises:
        HTTPException: status 503, because too many answers wait for clients that do not read.
    """
    reserved = 0 if len(data) <= _PIECE_BYTES else len(data)
    if not memory.reserve(reserved):
        raise HTTPException(503, "too many answers are not read yet: try again later")
    kind: dict[str, Any] = {"media_type": "application/json", "headers": headers}
    return whole_response(memory, data, reserved=reserved, **kind)
