"""Pictures of a site that change, with validators, and what happens when the site is in trouble."""

from collections.abc import Callable
from http.server import BaseHTTPRequestHandler

from imgcache_scrapy.core.entry import content_hash_of
from tests.support.site import redirect, respond

LAST_MODIFIED = "Wed, 25 Nov 2026 10:00:00 GMT"
Answer = bytes | Callable[[BaseHTTPRequestHandler], None]


class Original:
    """The answer for a picture that may change; it counts what it sends.

    Args:
        body: the bytes of the picture.
        has_validators: whether answers have an ETag and Last-Modified.
        headers: more headers of each answer.

    Attributes:
        body: the bytes of the picture now.
        trouble: the answer instead of the picture; None if the site works.
        requests: number of requests.
        sent_bytes: number of bytes of all bodies.
    """

    def __init__(
        self, body: bytes, *, has_validators: bool = True, headers: dict[str, str] | None = None
    ) -> None:
        self.body = body
        self.trouble: Answer | None = None
        self.requests = self.sent_bytes = 0
        self._has_validators = has_validators
        self._headers = headers or {}

    @property
    def etag(self) -> str:
        """The ETag of the picture now."""
        return f'"{content_hash_of(self.body)[:16]}"'

    def __call__(self, handler: BaseHTTPRequestHandler) -> None:
        """Answer a request."""
        self.requests += 1
        if self.trouble is not None:
            if isinstance(self.trouble, bytes):
                respond(handler, self.trouble)
            else:
                self.trouble(handler)
            return
        headers = dict(self._headers)
        if self._has_validators:
            headers |= {"ETag": self.etag, "Last-Modified": LAST_MODIFIED}
        if self._has_validators and handler.headers.get("If-None-Match") == self.etag:
            not_modified(handler, headers)
            return
        self.sent_bytes += len(self.body)
        respond(handler, self.body, headers=headers)


def not_modified(handler: BaseHTTPRequestHandler, headers: dict[str, str] | None = None) -> None:
    """Answer that the picture has not changed."""
    handler.send_response(304)
    for name, value in (headers or {}).items():
        handler.send_header(name, value)
    handler.end_headers()


def status(code: int, **headers: str) -> Answer:
    """Return an answer with a status and a small page."""
    page = b"<!doctype html><title>trouble</title>"
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda handler: respond(
        handler, page, status=code, content_type="text/html", headers=named
    )


def hang_up(handler: BaseHTTPRequestHandler) -> None:
    """Close the connection without an answer."""
    handler.close_connection = True


def cut_off(handler: BaseHTTPRequestHandler) -> None:
    """Announce more bytes than are sent."""
    respond(handler, b"\xff\xd8\xff\xe0", headers={"Content-Length": "5000"})
    handler.close_connection = True


TROUBLES: dict[str, Answer] = {
    "500": status(500),
    "503": status(503, Retry_After="86400"),
    "403": status(403),
    "429": status(429, Retry_After="3600"),
    "302": redirect("/"),
    "html": lambda handler: respond(handler, b"<!doctype html><title>robot?</title>"),
    "empty": lambda handler: respond(handler, b""),
    "truncated": lambda handler: respond(handler, b"\xff\xd8\xff\xe0" + b"\0" * 100),
    "cut": cut_off,
    "closed": hang_up,
}
"""Answers that are no good picture, by name."""
