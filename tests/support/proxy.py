"""A proxy in front of a service that simulates faults of networks and servers."""

import socket
import struct
from contextlib import suppress
from threading import Event, Lock, Thread
from urllib.parse import urlsplit

FAULTS = ("refuse", "hang", "drip", "reset", "error", "garbage")
POISON = "poison"
"""The fault of answering 500 to the requests that contain `poison`."""


class Proxy:
    """Passes requests on to a service, or simulates a fault, which tests may change at any time.

    Args:
        to: the service's URL.

    Attributes:
        url: the proxy's URL.
        poison: bytes in the requests that the fault POISON is about.
        host: the name that the service finds in the header Host; empty to keep that of the client.
        asked: method and path of each request, also of those that got a fault.
        moved: the number of bytes of all requests and of the answers that were passed on.
    """

    def __init__(self, to: str) -> None:
        self._to = (urlsplit(to).hostname, urlsplit(to).port)
        self._lock = Lock()
        self._open: set[socket.socket] = set()
        self._mode = "pass"
        self._closed = Event()
        self.poison = b""
        self.host = b""
        self.asked: list[tuple[str, str]] = []
        self.moved = 0
        self._server = self._listening(0)
        self._port = self._server.getsockname()[1]
        self.url = f"http://127.0.0.1:{self._port}"

    @property
    def fault(self) -> str | None:
        """The simulated fault, None if the proxy passes requests on."""
        return None if self._mode == "pass" else self._mode

    @fault.setter
    def fault(self, fault: str | None) -> None:
        assert fault is None or fault in {*FAULTS, POISON}
        with self._lock:
            before, self._mode = self._mode, fault or "pass"
            if self._mode == "refuse" != before:
                _end(self._server)
                for each in self._open:
                    _end(each)
            elif before == "refuse" != self._mode:
                self._server = self._listening(self._port)

    def wait(self) -> None:
        """Wait for 20 ms; raise ConnectionError if the proxy is closed meanwhile."""
        if self._closed.wait(0.02):
            raise ConnectionError

    def close(self) -> None:
        """Stop the proxy, and end all its connections."""
        self._closed.set()
        self.fault = "refuse"

    def _listening(self, port: int) -> socket.socket:
        server = socket.create_server(("127.0.0.1", port), backlog=128)
        Thread(target=self._accept, args=[server], daemon=True).start()
        return server

    def _accept(self, server: socket.socket) -> None:
        with suppress(OSError):
            while True:
                client, _ = server.accept()
                with self._lock:
                    self._open.add(client)
                Thread(target=self._talk, args=[client], daemon=True).start()

    def _talk(self, client: socket.socket) -> None:
        service = socket.create_connection(self._to)
        with suppress(OSError, ConnectionError):
            while request := _message(client):
                method, path, _ = request.split(b" ", 2)
                with self._lock:
                    self.asked.append((method.decode(), path.decode()))
                    self.moved += len(request)
                self._answer(request, client, service)
        _end(service)
        _end(client)
        with self._lock:
            self._open.discard(client)

    def _answer(self, request: bytes, client: socket.socket, service: socket.socket) -> None:
        if self._mode == "hang":
            self._closed.wait()
        elif self._mode == "drip":
            client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
            while not self._closed.wait(0.05):
                client.sendall(b" ")
        elif self._mode == "error" or (self._mode == POISON and self.poison in request):
            client.sendall(_response(b"500 Internal Server Error", b"<h1>Oops</h1>"))
        elif self._mode == "garbage":
            client.sendall(_response(b"200 OK", b"<h1>It works!</h1>"))
        else:
            service.sendall(_renamed(request, self.host) if self.host else request)
            answer = _message(service)
            with self._lock:
                self.moved += len(answer)
            if self._mode != "reset":
                client.sendall(answer)
                return
            client.sendall(answer[:-1])
            # Close the connection by RST instead of FIN.
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            raise ConnectionError


def _message(sender: socket.socket) -> bytes:
    """Read a request or a response with its body; return b"" if the sender has closed."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += (part := sender.recv(65536))
        if not part:
            return b""
    head, _, body = data.partition(b"\r\n\r\n")
    length = next(
        (
            int(line.split(b":")[1])
            for line in head.split(b"\r\n")
            if line.lower().startswith(_LENGTH)
        ),
        0,
    )
    parts = [data]
    left = length - len(body)
    while left > 0:
        parts.append(part := sender.recv(65536))
        if not part:
            return b""
        left -= len(part)
    return b"".join(parts)


def _renamed(request: bytes, host: bytes) -> bytes:
    head, _, body = request.partition(b"\r\n\r\n")
    lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"host:")]
    return b"\r\n".join([*lines, b"Host: " + host, b"", body])


_LENGTH = b"content-length:"


def _response(status: bytes, body: bytes) -> bytes:
    head = b"HTTP/1.1 %b\r\nContent-Type: text/html\r\nContent-Length: %d\r\n\r\n"
    return head % (status, len(body)) + body


def _end(each: socket.socket) -> None:
    with suppress(OSError):
        each.shutdown(socket.SHUT_RDWR)
    each.close()
