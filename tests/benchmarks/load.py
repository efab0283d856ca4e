"""Send prepared requests to a service, over persistent connections.

The client is minimal, so that its own time does not count: it writes bytes and reads a length.
"""

import asyncio
import re
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from statistics import median, quantiles
from typing import Any

import httpx
import uvloop

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


@dataclass
class Measurements:
    """The measurements of a load.

    Attributes:
        seconds: time from the first request to the last answer.
        latencies: seconds from each request to the end of its answer.
        statuses: number of answers with each status.
        received: bytes of the answers' bodies.
    """

    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    received: int = 0


def raw(method: str, path: str, **content: Any) -> bytes:
    """Return a request as bytes; the arguments are those of httpx."""
    request = httpx.Request(method, f"http://127.0.0.1{path}", **content)
    head = [f"{method} {request.url.raw_path.decode()} HTTP/1.1"]
    head += [f"{name}: {value}" for name, value in request.headers.items()]
    return "\r\n".join([*head, "", ""]).encode() + request.read()


def load(port: int, requests: Iterable[bytes], connections: int) -> Measurements:
    """Send the requests, one after the other on each connection."""
    return uvloop.run(_load(port, iter(requests), connections))


def percentiles(latencies: list[float]) -> tuple[float, float]:
    """Return the median and the 99th percentile, in milliseconds."""
    return 1000 * median(latencies), 1000 * quantiles(latencies, n=100)[-1]


async def _load(port: int, requests: Iterator[bytes], connections: int) -> Measurements:
    loop = asyncio.get_running_loop()
    measured = Measurements()
    open_connections = []
    for _ in range(connections):
        _, connection = await loop.create_connection(
            lambda: _Connection(requests, measured), "127.0.0.1", port
        )
        open_connections.append(connection)
    start = time.perf_counter()
    for connection in open_connections:
        connection.ask()
    await asyncio.gather(*(connection.done for connection in open_connections))
    measured.seconds = time.perf_counter() - start
    return measured


class _Connection(asyncio.Protocol):
    def __init__(self, requests: Iterator[bytes], measured: Measurements) -> None:
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._requests = requests
        self._measured = measured
        self._answer = bytearray()
        self._wanted = 0

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def connection_lost(self, error: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(error or ConnectionError("the service closed the connection"))

    def ask(self) -> None:
        request = next(self._requests, None)
        if request is None:
            self.done.set_result(None)
            self._transport.close()
        else:
            self._asked = time.perf_counter()
            self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._answer += data
        if not self._wanted:
            end = self._answer.find(b"\r\n\r\n")
            if end < 0:
                return
            length = _LENGTH.search(self._answer, 0, end)
            assert length is not None, "the answer has no Content-Length"
            self._wanted = end + 4 + int(length[1])
            self._measured.received += int(length[1])
        if len(self._answer) >= self._wanted:
            self._measured.latencies.append(time.perf_counter() - self._asked)
            self._measured.statuses[int(self._answer[9:12])] += 1
            self._answer.clear()
            self._wanted = 0
            self.ask()
