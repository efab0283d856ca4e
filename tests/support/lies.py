"""A service that lies: it passes requests on to a real one, and changes some of its answers."""

import gzip
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, NamedTuple

import httpx

_HTML = b"<html>Request Entity Too Large</html>"
_ENDLESS_PART = b" " * 65536
# Much more than any client should read of an answer, and little enough to send it in a moment.
_ENDLESS_BYTES = 400 * 2**20


class Reply(NamedTuple):
    """An answer; `body` is bytes, or None for an endless body."""

    status: int
    headers: dict[str, str]
    body: bytes | None


Lie = Callable[[Reply], Reply]


def _raw(status: int, body: bytes | None, **headers: str) -> Lie:
    """Answer always this."""
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda _: Reply(status, {"Content-Type": "text/html"} | names, body)


def _entries(change: Callable[[dict[str, Any]], dict[str, Any]]) -> Lie:
    """Change each entry of an answer."""

    def lie(reply: Reply) -> Reply:
        if reply.status >= 300 or reply.body is None:
            return reply
        body = json.loads(reply.body)
        if "entries" in body:
            body["entries"] = {url: change(entry) for url, entry in body["entries"].items()}
        else:
            body = change(body)
        return reply._replace(body=json.dumps(body).encode())

    return lie


def _with(**values: Any) -> Lie:
    return _entries(lambda entry: entry | values)


def _rotated(reply: Reply) -> Reply:
    """Answer with the entry of the next URL, for each URL."""
    body = json.loads(reply.body or b"{}")
    entries = body.get("entries", {})
    values = list(entries.values())
    body["entries"] = dict(zip(entries, values[1:] + values[:1], strict=True))
    return reply._replace(body=json.dumps(body).encode())


def _bytes(change: Callable[[bytes], bytes]) -> Lie:
    """Change the body of an answer that is a success."""
    return lambda reply: (
        reply._replace(body=change(reply.body or b"")) if reply.status < 300 else reply
    )


_BOMB = gzip.compress(bytes(2**24))
_GZIP = {"Content_Encoding": "gzip"}
_OTHER = {
    "another hash": _with(content_hash="ab" * 32),
    "another URL": _with(
        url="http://elsewhere.example/a.jpg", key="http://elsewhere.example/a.jpg"
    ),
    "a hash in capitals": _entries(lambda entry: entry | {"content_hash": "AB" * 32}),
    "a path as hash": _with(content_hash="../../../../etc/passwd"),
    "no hash": _entries(lambda entry: {k: v for k, v in entry.items() if k != "content_hash"}),
    "a negative size": _with(file_size_bytes=-(10**12)),
    "a size that is text": _with(file_size_bytes="1000"),
    "a size that is true": _with(file_size_bytes=True),
    "an impossible size": _with(file_size_bytes=10**30),
    "no width": _with(width=0),
    "a broken text": _with(original_filename="\ud800"),
    "a long text": _with(client_name="x" * 10_000),
    "a line break": _with(content_type="image/jpeg\r\nSet-Cookie: a=b"),
    "a wrong time": _with(lookup_time="yesterday"),
    "a wrong perceptual hash": _with(perceptual_hash="zz"),
    "an entry that is null": _entries(lambda _: None),  # type: ignore[arg-type, return-value]
}
_FOREIGN = {
    "a page": _raw(200, _HTML),
    "nothing": _raw(200, b""),
    "no content": _raw(204, b""),
    "a refusal of a proxy": _raw(413, _HTML),
    "a refusal of a firewall": _raw(422, _HTML),
    "a bad request of a proxy": _raw(400, _HTML),
    "an empty refusal": _raw(413, b""),
    "a refusal of a gateway": _raw(413, b'{"code": 413, "detail": "Payload Too Large"}'),
    "a page that is not found": _raw(404, _HTML),
    "a redirect": _raw(302, b"", Location="/"),
    "an endless answer": _raw(200, None),
    "an endless error": _raw(500, None),
    "a compressed bomb": _raw(200, _BOMB, **_GZIP),
    "deep JSON": _raw(200, b"[" * 500_000),
    "a list": _raw(200, b"[{},{}]"),
}
REFUSAL = _raw(413, b'{"code": "too_large", "status": 413, "detail": "too large"}')
"""A refusal as this API writes it."""
LOOKUP_LIES = {
    # A client cannot know that the hash of a URL is wrong before it reads the bytes.
    **{name: lie for name, lie in _OTHER.items() if name != "another hash"},
    **_FOREIGN,
    "entries of other URLs": _rotated,
    "a large size": _with(file_size_bytes=10**15),
}
"""Lies in the answers to lookups, by name."""
STORE_LIES = {**_OTHER, **_FOREIGN}
"""Lies in the answers to stores, by name."""
BYTES_LIES = {
    "other bytes": _bytes(lambda body: body[:-1] + b"!"),
    "cut bytes": _bytes(lambda body: body[:-1]),
    "more bytes": _bytes(lambda body: body + b"!"),
    **{name: _FOREIGN[name] for name in ("a page", "nothing", "an endless answer", "a redirect")},
    "a compressed bomb": _FOREIGN["a compressed bomb"],
}
"""Lies in the answers to reads of bytes, by name."""


class LyingService:
    """A server in front of a service; its answers to some requests are lies.

    Args:
        service: the URL of the service.

    Attributes:
        url: the URL of this server.
        lies: a lie for each kind of request: "lookup", "store" or "bytes".
        sent: the most bytes of a body that a client has read, or the network has buffered.
    """

    def __init__(self, service: str) -> None:
        self.lies: dict[str, Lie] = {}
        self.sent = 0
        liar = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                with suppress(ConnectionError):
                    liar._answer(self, service)

            do_POST = do_DELETE = do_GET  # noqa: N815

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        """Stop the server."""
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, handler: BaseHTTPRequestHandler, service: str) -> None:
        body = handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
        type_ = handler.headers.get("Content-Type")
        answer = httpx.request(
            handler.command,
            service + handler.path,
            content=body,
            headers={"Content-Type": type_} if type_ else {},
            timeout=60,
            trust_env=False,
            verify=False,  # Loading the certificates takes long.
        )
        types = {"Content-Type": answer.headers.get("Content-Type", "")}
        reply = Reply(answer.status_code, types, answer.content)
        lie = self.lies.get(_kind(handler.command, handler.path))
        self._send(handler, lie(reply) if lie else reply)

    def _send(self, handler: BaseHTTPRequestHandler, reply: Reply) -> None:
        handler.send_response(reply.status)
        for name, value in reply.headers.items():
            handler.send_header(name, value)
        if reply.body is not None:
            if reply.status != 204:
                handler.send_header("Content-Length", str(len(reply.body)))
            handler.end_headers()
            handler.wfile.write(reply.body)
            return
        handler.close_connection = True
        handler.end_headers()
        sent = 0
        while sent < _ENDLESS_BYTES:
            handler.wfile.write(_ENDLESS_PART)
            sent += len(_ENDLESS_PART)
            self.sent = max(self.sent, sent)


def _kind(method: str, path: str) -> str:
    if method == "POST" and path == "/images":
        return "store"
    return "lookup" if path.startswith("/images/lookup") else "bytes"


@contextmanager
def lying(service: str) -> Iterator[LyingService]:
    """Start a lying service, and close it."""
    liar = LyingService(service)
    try:
        yield liar
    finally:
        liar.close()
