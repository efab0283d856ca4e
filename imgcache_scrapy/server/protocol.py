"""HTTP as uvicorn speaks it, with bounds on heads and on stalled answers, which it has not."""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

# The parser takes URLs of 64 KiB at most.
_MAX_HEAD_BYTES = 2**17


class ImpatientProtocol(HttpToolsProtocol):
    """Closes a connection whose client sends no whole head, or takes nothing of an answer.

    Attributes:
        head_seconds: for a whole head.
        send_seconds: without the client having taken anything of an answer.
    """

    head_seconds: float = 20
    send_seconds: float = 20
    _timer: asyncio.TimerHandle | None = None
    _send_timer: asyncio.TimerHandle | None = None
    # Since the last head or piece of a body: what is kept without the app having seen it.
    _unseen = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the clock."""
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Count what comes; a trailer behind a body is kept as well, as long as it may be."""
        self._unseen += len(data)
        super().data_received(data)
        if self._unseen > _MAX_HEAD_BYTES:
            self._give_up()

    def on_message_begin(self) -> None:
        """Start the clock anew: a connection may carry many requests."""
        self._wait()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Stop the clock."""
        self._stop()
        self._unseen = 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Pass it on: `BoundedBodies` counts it."""
        self._unseen = 0
        super().on_body(body)

    def on_response_complete(self) -> None:
        """Start the clock for the rest of a body that no route wanted; it is thrown away.

        To close at once would reset the connection, and the client might never see the answer.
        """
        super().on_response_complete()
        if self.cycle.response_complete:
            self._wait()

    def pause_writing(self) -> None:
        """Watch whether the client takes what is kept for it."""
        super().pause_writing()
        self._watch(-1)

    def resume_writing(self) -> None:
        """Watch no longer."""
        self._stop_watching()
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clocks."""
        self._stop()
        self._stop_watching()
        super().connection_lost(exc)

    def _wait(self) -> None:
        self._stop()
        self._timer = self.loop.call_later(self.head_seconds, self._give_up)

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _watch(self, left_before: int) -> None:
        transport: Any = self.transport
        left = transport.get_write_buffer_size()
        if left == left_before:
            transport.abort()
        else:
            self._send_timer = self.loop.call_later(self.send_seconds, self._watch, left)

    def _stop_watching(self) -> None:
        if self._send_timer is not None:
            self._send_timer.cancel()
            self._send_timer = None

    def _give_up(self) -> None:
        transport: Any = self.transport
        transport.close()
