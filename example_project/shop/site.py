"""A small web site on this machine: shows each photograph under several URLs, counts requests.

/                         the page of the shop, one product per photograph
/photos/NAME              the photograph
/signed/NAME?…            the same bytes under a URL with a signature, which is always new
/copy/NAME                the same bytes under another URL
/go/NAME                  a redirect to the photograph
/resized/NAME             different bytes: 320 pixels wide
/recompressed/NAME        different bytes: a JPEG of lower quality
/blocked/NAME             an HTML page instead of the picture
/photos/sold-out.jpg      404
/changing                 the page with the pictures of the webcam
/webcam/now.jpg           another photograph each time the site starts; an ETag tells them apart
/webcam/always.jpg        one photograph that never changes, with an ETag, too
/requests                 the number of requests so far, as JSON
"""

import hashlib
import html
import json
import logging
import mimetypes
import secrets
import time
from collections import Counter
from collections.abc import Callable
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from threading import Thread
from typing import Any, Self
from urllib.parse import urlsplit

from PIL import Image, ImageOps
from scrapy import signals
from scrapy.crawler import Crawler
from scrapy.utils.project import data_path

HOST = "127.0.0.1"
PHOTOS = Path(__file__).parent.parent / "photos"
NAMES = sorted(path.name for path in PHOTOS.iterdir() if path.suffix in {".jpg", ".png", ".webp"})

logger = logging.getLogger(__name__)


class PictureSite:
    """Scrapy extension: runs the site during a crawl."""

    def __init__(self, port: int) -> None:
        try:
            self._server = Server((HOST, port), Handler)
        except OSError as error:
            raise SystemExit(
                f"Port {port} is in use: stop the program that uses it, or choose another one with "
                "-s SITE_PORT=NUMBER"
            ) from error

    @classmethod
    def from_crawler(cls, crawler: Crawler) -> Self:
        """Start the site, and stop it when the crawl ends."""
        site = cls(crawler.settings.getint("SITE_PORT"))
        site._server.view = next_view()
        Thread(target=site._server.serve_forever, args=[0.05], daemon=True).start()
        crawler.signals.connect(site.stop, signals.engine_stopped)
        return site

    def stop(self) -> None:
        """Stop the site and log the number of requests."""
        self._server.shutdown()
        self._server.server_close()
        counts = self._server.requests
        counted = ", ".join(f"{kind} {count}" for kind, count in sorted(counts.items()))
        logger.info("Picture site: %d requests: %s", counts.total(), counted)


class Server(ThreadingHTTPServer):
    """Counts the requests by the first part of their path."""

    daemon_threads = True
    request_queue_size = 128  # with the default of 5 a crawler's connections wait for seconds

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.requests: Counter[str] = Counter()
        self.view = ""


class Handler(BaseHTTPRequestHandler):
    """Answers one request."""

    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        """Answer a request according to the first part of its path."""
        path = urlsplit(self.path).path
        if path == "/requests":
            self.answer(json.dumps(self.server.requests).encode(), "application/json")
            return
        kind, _, name = path.strip("/").partition("/")
        self.server.requests[kind or "page"] += 1
        if not kind:
            self.answer(page().encode(), "text/html; charset=utf-8")
        elif kind == "blocked":
            self.answer(b"<!doctype html><title>Are you a robot?</title>", "text/html")
        elif kind == "changing":
            webcam = [f"/webcam/{name}" for name in WEBCAM]
            self.answer(product("webcam", webcam).encode(), "text/html; charset=utf-8")
        elif kind == "webcam" and name in WEBCAM:
            self.answer_if_new(photo(WEBCAM[name] or self.server.view))
        elif kind == "go":
            self.redirect(f"/photos/{name}")
        elif kind in PICTURES and name in NAMES:
            self.answer(PICTURES[kind](name), picture_type(kind, name))
        else:
            self.send_error(404)

    def answer(self, body: bytes, content_type: str) -> None:
        """Send a response with this body."""
        self.send_response(200)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def answer_if_new(self, body: bytes) -> None:
        """Send a JPEG, or a 304 without a body if the client has it already."""
        etag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
        is_known = self.headers.get("If-None-Match") == etag
        self.send_response(304 if is_known else 200)
        self.send_header("ETag", etag)
        if not is_known:
            self.send_header("Content-Type", "image/jpeg")
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if not is_known:
            self.wfile.write(body)

    def redirect(self, path: str) -> None:
        """Send a redirect to another path."""
        self.send_response(302)
        self.send_header("Location", path)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Log nothing: the log of the crawl is enough."""


def next_view() -> str:
    """Return what the webcam shows now: the photograph after the last one."""
    file = Path(data_path("webcam", createdir=True)) / "number.txt"
    number = int(file.read_text()) + 1 if file.exists() else 0
    file.write_text(str(number))
    views = [name for name in NAMES if name.endswith(".jpg") and name not in WEBCAM.values()]
    return views[number % len(views)]


def page() -> str:
    """Return the page of the shop; each photograph has several URLs, one of them always new."""
    products = "".join(product(name, urls(name)) for name in NAMES)
    return f"<!doctype html><title>Shop</title>{products}{product('sold out', FAILING)}"


def product(name: str, images: list[str]) -> str:
    """Return the HTML of one product."""
    pictures = "".join(f'<img src="{html.escape(url)}">' for url in images)
    return f"<article><h2>{Path(name).stem}</h2>{pictures}</article>"


def urls(name: str) -> list[str]:
    """Return all URLs of a photograph."""
    # In the shape of CloudFront's signed URLs.
    expires, signature = int(time.time()) + 900, secrets.token_urlsafe(32)
    signature = f"Expires={expires}&Signature={signature}&Key-Pair-Id=K2SHOPEXAMPLE"
    kinds = ("photos", "copy", "go", "resized", "recompressed")
    return [f"/{kind}/{name}" for kind in kinds] + [f"/signed/{name}?{signature}"]


def photo(name: str) -> bytes:
    """Return the bytes of the photograph's file."""
    return (PHOTOS / name).read_bytes()


@cache
def resized(name: str) -> bytes:
    """Return the photograph with a width of 320 pixels."""
    picture = ImageOps.exif_transpose(Image.open(PHOTOS / name))
    return jpeg(picture.resize((320, round(320 * picture.height / picture.width))), quality=85)


@cache
def recompressed(name: str) -> bytes:
    """Return the photograph as a JPEG of lower quality."""
    return jpeg(ImageOps.exif_transpose(Image.open(PHOTOS / name)), quality=60)


def jpeg(picture: Image.Image, quality: int) -> bytes:
    """Encode a picture as JPEG."""
    file = BytesIO()
    picture.convert("RGB").save(file, "JPEG", quality=quality)
    return file.getvalue()


def picture_type(kind: str, name: str) -> str:
    """Return the content type of a picture."""
    converted = kind in {"resized", "recompressed"}
    return "image/jpeg" if converted else mimetypes.guess_type(name)[0] or "image/webp"


WEBCAM = {"now.jpg": None, "always.jpg": "sunset.jpg"}
FAILING = ["/photos/sold-out.jpg", "/blocked/door.jpg"]
PICTURES: dict[str, Callable[[str], bytes]] = {
    "photos": photo,
    "copy": photo,
    "signed": photo,
    "resized": resized,
    "recompressed": recompressed,
}
