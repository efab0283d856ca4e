"""A small web site on loopback."""

from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import urlsplit


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128  # a crawler opens many connections at once


class Site:
    """A site whose answers tests put into `answers`; it counts the requests in `asked`.

    An answer is bytes, or a function that gets the handler and answers the request.
    """

    def __init__(self) -> None:
        self.answers: dict[str, bytes | Callable[[BaseHTTPRequestHandler], None]] = {}
        self.asked: Counter[str] = Counter()
        self.headers: dict[str, list[dict[str, str]]] = {}
        self._server = _Server(("127.0.0.1", 0), self._handler())
        Thread(target=self._server.serve_forever, args=[0.05], daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def images_asked(self) -> Counter[str]:
        """Return the requests without those for the start page."""
        return Counter({path: n for path, n in self.asked.copy().items() if path != "/"})

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        site = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                site.asked[self.path] += 1
                site.headers.setdefault(self.path, []).append(dict(self.headers))
                answer = site.answers.get(self.path) or site.answers.get(urlsplit(self.path).path)
                if self.path == "/" and answer is None:
                    respond(self, b"<title>page</title>", content_type="text/html")
                elif answer is None:
                    respond(self, b"no such thing", status=404, content_type="text/plain")
                elif isinstance(answer, bytes):
                    respond(self, answer)
                else:
                    answer(self)

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                self.do_GET()

            def log_message(self, *_: object) -> None:
                pass

        return Handler


def respond(
    handler: BaseHTTPRequestHandler,
    body: bytes,
    *,
    status: int = 200,
    content_type: str = "image/jpeg",
    headers: dict[str, str] | None = None,
) -> None:
    """Send a response."""
    handler.send_response(status)
    handler.send_header("Content-Type", content_type)
    for name, value in ({"Content-Length": str(len(body))} | (headers or {})).items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(body)


def redirect(to: str, status: int = 302) -> Callable[[BaseHTTPRequestHandler], None]:
    """Return an answer that redirects to another URL."""
    return lambda handler: respond(handler, b"", status=status, headers={"Location": to})
