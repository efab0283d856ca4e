"""LimitedHttpProtocol: closes connections that send their head too slowly or read no answer.

uvicorn has no settings for this, nor for its log lines, so the class extends its protocol. Of
uvicorn it uses the methods that asyncio and the parser call, `send_400_response`, and the
attributes `loop`, `logger`, `transport`, `cycle`, `pipeline` and `url`.
"""

import asyncio
import logging
import math
import socket
import sys
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from imgcache_scrapy.core.errors import InvalidRequestError
from imgcache_scrapy.server.problems import problem

# The parser refuses URLs over 64 KiB.
_MAX_HEAD_BYTES = 2**17
# The kernel would keep up to 4 MB for each client that does not read.
_MAX_UNSENT_IN_KERNEL = 2**17
_LOG_SECONDS = 10
# A client may send further requests before it has read the answer.
_MAX_WAITING_REQUESTS = 16
# What the parser of uvicorn can take apart.
_MAX_URL_BYTES = 2**16 - 1


class RareLines(logging.Filter):
    """Lets a log have at most one line about clients in `_LOG_SECONDS`.

    uvicorn writes one or two for each request that is not valid HTTP, and for each answer that ends
    too early. A client can cause any number of these.

    Args:
        clock: returns the time in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._next = -math.inf
        self._left_out = 0

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a record is logged; note in it how many were left out before it."""
        if not _is_of_the_client(record):
            return True
        if self._clock() < self._next:
            self._left_out += 1
            return False
        self._next = self._clock() + _LOG_SECONDS
        if self._left_out:
            record.msg = f"{record.msg} ({self._left_out} such warnings were left out)"
            self._left_out = 0
        return True


def _is_of_the_client(record: logging.LogRecord) -> bool:
    """Return whether a line of uvicorn's protocol only tells what a client did."""
    is_warning = record.levelno == logging.WARNING or "without completing response" in record.msg
    return is_warning and record.module == "httptools_impl"


_rare_lines = RareLines()


class LimitedHttpProtocol(HttpToolsProtocol):
    """Closes a connection if its client does not send a whole head, or does not read the answer.

    Attributes:
        head_seconds: maximum time for receiving a whole head.
        send_seconds: maximum time in which nothing of an answer reaches the client. A client with
            large buffers that reads 20 KB/s may make room for more only every 30 seconds.
    """

    head_seconds: float = 20
    send_seconds: float = 120
    _head_timer: asyncio.TimerHandle | None = None
    _send_timer: asyncio.TimerHandle | None = None
    # Received since the last complete head or part of a body; the app cannot count these bytes.
    _head_bytes = 0

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.logger.addFilter(_rare_lines)
        # uvicorn itself knows only the newest request of the connection.
        self._unanswered: deque[Any] = deque()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the timer for the first head."""
        super().connection_made(transport)
        self._start_head_timer()
        connection = transport.get_extra_info("socket")
        if sys.platform == "linux" and connection.family in {socket.AF_INET, socket.AF_INET6}:
            connection.setsockopt(
                socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _MAX_UNSENT_IN_KERNEL
            )

    def data_received(self, data: bytes) -> None:
        """Close the connection if a head, or the trailer after a body, is too large."""
        self._head_bytes += len(data)
        super().data_received(data)
        if self._head_bytes > _MAX_HEAD_BYTES:
            self._close()

    def on_message_begin(self) -> None:
        """Restart the timer: a connection may have many requests."""
        self._start_head_timer()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Stop the timer, because the head is complete."""
        self._stop_head_timer()
        self._head_bytes = 0
        if len(self._unanswered) > _MAX_WAITING_REQUESTS:
            raise ValueError("too many requests wait for the answer to the first one")
        super().on_headers_complete()
        self._unanswered.append(self.cycle)

    def on_body(self, body: bytes) -> None:
        """Pass a part of the body on; `BodyLimitMiddleware` counts it."""
        self._head_bytes = 0
        super().on_body(body)

    def on_response_complete(self) -> None:
        """Start the timer for the rest of a body that no route reads; the rest is ignored.

        Closing immediately would reset the connection, and the client might not get the answer.
        """
        self._unanswered.popleft()
        super().on_response_complete()
        if self.cycle.response_complete:
            self._start_head_timer()

    def pause_writing(self) -> None:
        """Start checking whether the client reads the answer."""
        super().pause_writing()
        self._check_progress()

    def resume_writing(self) -> None:
        """Stop checking, because the client reads."""
        self._stop_send_timer()
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop both timers."""
        self._stop_head_timer()
        self._stop_send_timer()
        self._give_up()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """Answer a request that is not valid HTTP; a URL that is too long is no more than that."""
        transport: Any = self.transport
        if self._unanswered:
            # In the middle of another answer, this one would damage it.
            self._give_up()
            transport.abort()
        elif len(self.url) <= _MAX_URL_BYTES:
            super().send_400_response(msg)
        else:
            transport.write(_answer_to_long_url())
            transport.close()

    def _give_up(self) -> None:
        """Let the app answer no further request; its answers go nowhere."""
        self.pipeline.clear()
        for cycle in self._unanswered:
            cycle.disconnected = True
            cycle.message_event.set()

    def _start_head_timer(self) -> None:
        self._stop_head_timer()
        self._head_timer = self.loop.call_later(self.head_seconds, self._close)

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _check_progress(self, unsent_before: int | None = None) -> None:
        transport: Any = self.transport
        unsent = transport.get_write_buffer_size() + _bytes_in_kernel(transport)
        if unsent == unsent_before:
            transport.abort()
        else:
            self._send_timer = self.loop.call_later(self.send_seconds, self._check_progress, unsent)

    def _stop_send_timer(self) -> None:
        if self._send_timer is not None:
            self._send_timer.cancel()
            self._send_timer = None

    def _close(self) -> None:
        transport: Any = self.transport
        transport.close()


def _answer_to_long_url() -> bytes:
    detail = f"the URL of a request must not be longer than {_MAX_URL_BYTES} bytes"
    answer = problem(InvalidRequestError.code, InvalidRequestError.status, detail)
    head = [b"HTTP/1.1 422 Unprocessable Content", b"connection: close"]
    head += [name + b": " + value for name, value in answer.raw_headers]
    return b"\r\n".join([*head, b"", bytes(answer.body)])


def _bytes_in_kernel(transport: asyncio.Transport) -> int:
    """Return how many bytes the kernel holds for a client; their number falls while it reads.

    The buffer of the transport alone does not tell: the kernel takes more only in large steps.
    """
    if sys.platform != "linux":
        return 0
    import fcntl  # noqa: PLC0415 - only Unix has it
    import termios  # noqa: PLC0415

    number = bytearray(4)
    fcntl.ioctl(transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, number)
    return int.from_bytes(number, sys.byteorder)
