"""Send the bodies of answers with back-pressure, and bound the memory of all of them together."""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
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

# uvicorn waits before each piece until the client has read the one before, except for 64 KiB.
_PIECE_BYTES = 2**16
_MAX_BYTES = 32 * 2**20
_MAX_PARTS = 256
# Only while others wait for its memory; else the protocol waits longer.
_STALLED_SECONDS = 5
# The time in which answers that are ended release their memory.
_END_SECONDS = 0.05

logger = logging.getLogger(__name__)


class AnswerMemory:
    """Bounds the memory for bodies, from the moment they are read until they are sent.

    If too little is free, it ends the answers whose clients have read nothing for long: clients
    that do not read must not take the memory from all others.
    """

    def __init__(self) -> None:
        self._free = _MAX_BYTES
        self._parts = asyncio.Semaphore(_MAX_PARTS)
        # The answers that are being sent, and when each was last read; the oldest time first.
        self._read_at: dict[asyncio.Timeout, float] = {}
        self._watch: asyncio.TimerHandle | None = None

    def reserve(self, size: int) -> bool:
        """Reserve memory for a body; return False if too much is used."""
        if size > self._free:
            return False
        self._free -= size
        return True

    def release(self, size: int) -> None:
        """Release reserved memory."""
        self._free += size

    async def make_room(self, size: int) -> None:
        """End answers that are not read, if there is no memory for a body of this size."""
        if size > self._free and self._end_stalled():
            await asyncio.sleep(_END_SECONDS)

    @asynccontextmanager
    async def sending(self) -> AsyncIterator[Callable[[], None]]:
        """Note that an answer is being sent; yield a function to call when its client reads.

        Raises:
            TimeoutError: the client has read nothing for long, and others need the memory.
        """
        now = asyncio.get_running_loop().time
        async with asyncio.timeout(None) as deadline:

            def note_read() -> None:
                self._read_at.pop(deadline, None)
                self._read_at[deadline] = now()

            note_read()
            try:
                yield note_read
            finally:
                self._read_at.pop(deadline, None)

    def _end_stalled(self) -> bool:
        """End the answers whose clients read nothing for long; return whether there are any."""
        now = asyncio.get_running_loop().time()
        stalled = [each for each, at in self._read_at.items() if now - at > _STALLED_SECONDS]
        for each in stalled:
            del self._read_at[each]
            each.reschedule(now)
        return bool(stalled)

    def _watch_parts(self) -> None:
        """Look for answers that are not read, again and again while others wait for parts."""
        self._watch = None
        if self._parts.locked():
            self._end_stalled()
            self._watch = asyncio.get_running_loop().call_later(1, self._watch_parts)

    async def limited(self, parts: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
        """Read parts of images; while there are too many in memory, wait before the next one."""
        while True:
            if self._watch is None:
                self._watch_parts()
            async with self._parts:
                part = await anext(parts, None)
                if part is None:
                    return
                yield part


class StreamedResponse(Response):
    """An answer that sends its body in pieces, each when the client has read the one before.

    Args:
        memory: knows which answers are being sent.
        parts: the parts of the body; if reading them fails, the connection is closed.
        size: the number of bytes in all parts; None if it is not known.
        status_code: the HTTP status.
        headers: additional headers.
        media_type: the content type.
        on_end: called when the answer is sent, or when it ends for another reason.
    """

    def __init__(
        self,
        memory: AnswerMemory,
        parts: AsyncGenerator[bytes, None],
        size: int | None,
        status_code: int = 200,
        *,
        headers: Mapping[str, str],
        media_type: str,
        on_end: Callable[[], None] = lambda: None,
    ) -> None:
        length = {"Content-Length": str(size)}
        super().__init__(None, status_code, {**headers, **length}, media_type)
        if size is None:
            del self.headers["Content-Length"]
        self._memory = memory
        self._parts = parts
        self._on_end = on_end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the answer."""
        start = {"type": "http.response.start", "status": self.status_code}
        try:
            async with self._memory.sending() as note_read:
                await send({**start, "headers": self.raw_headers})
                if scope["method"] != "HEAD":
                    await self._send_parts(Request(scope, receive), send, note_read)
                await send({"type": "http.response.body"})
        except ImgCacheError as error:
            # Without its end, the client sees that the answer is not complete.
            logger.warning("An image could not be sent to its end: %s", error)
        except TimeoutError:
            logger.debug("An answer was ended, because its client did not read it")
        finally:
            self._on_end()

    async def _send_parts(
        self, request: Request, send: Send, note_read: Callable[[], None]
    ) -> None:
        async with aclosing(self._parts) as parts:
            async for part in parts:
                for start in range(0, len(part), _PIECE_BYTES):
                    piece = part[start : start + _PIECE_BYTES]
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
                    note_read()
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
        memory,
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
