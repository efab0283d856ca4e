"""An in-memory imitation of the service that `dwilson-imgcache-client` 0.3.0 was written for.

It has the routes of that client and FastAPI's own errors, without the additions of our service.
"""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from io import BytesIO
from typing import Annotated, Any

import imagehash
import uvicorn
from fastapi import Depends, FastAPI, Form, HTTPException, Request, Response, UploadFile
from fastapi.exceptions import RequestValidationError
from PIL import Image, UnidentifiedImageError

from imgcache_scrapy.core.entry import content_hash_of


@contextmanager
def serving(*, strict: bool) -> Iterator[str]:
    """Serve an empty cache in a thread, and return its address.

    Args:
        strict: refuse unknown parameters and form fields, which FastAPI ignores.
    """
    listening = socket.create_server(("127.0.0.1", 0))
    app = create_app(dependencies=[Depends(_refuse_unknown)] if strict else [])
    server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        listening.close()


def create_app(**options: Any) -> FastAPI:
    """Create the app with an empty cache."""
    app, images = FastAPI(**options), Images()
    _add_lists(app, images)
    _add_images(app, images)

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    return app


class Images:
    """The stored images: each once in a bucket, with the URL of its first store."""

    def __init__(self) -> None:
        self.stored: dict[tuple[str, str], tuple[dict[str, Any], bytes]] = {}

    def entries(self, bucket: str | None) -> list[dict[str, Any]]:
        """Return the entries of a bucket, or of all buckets."""
        return [entry for (its, _), (entry, _) in self.stored.items() if bucket in {None, its}]

    def get(self, bucket: str, content_hash: str) -> tuple[dict[str, Any], bytes]:
        """Return an image, or answer 404."""
        if (bucket, content_hash) not in self.stored:
            raise HTTPException(404, "Image not found")
        return self.stored[bucket, content_hash]


def _add_lists(app: FastAPI, images: Images) -> None:
    @app.get("/images/lookup")
    async def lookup(url: str, bucket: str | None = None) -> dict[str, Any]:
        found = [entry for entry in images.entries(bucket) if entry["url"] == url]
        if not found:
            raise HTTPException(404, "No image for this URL")
        return max(found, key=lambda entry: datetime.fromisoformat(entry["lookup_time"]))

    @app.get("/images/search")
    async def search(url_contains: str, bucket: str | None = None) -> list[dict[str, Any]]:
        return [entry for entry in images.entries(bucket) if url_contains in entry["url"]]

    @app.get("/images/similar")
    async def similar(
        perceptual_hash: str, max_hamming_distance: int = 4, bucket: str | None = None
    ) -> list[dict[str, Any]]:
        wanted = imagehash.hex_to_hash(perceptual_hash)
        hashed = [entry for entry in images.entries(bucket) if entry["perceptual_hash"]]
        return [
            entry
            for entry in hashed
            if wanted - imagehash.hex_to_hash(entry["perceptual_hash"]) <= max_hamming_distance
        ]


def _add_images(app: FastAPI, images: Images) -> None:
    @app.post("/images", status_code=201)
    async def store(
        *,
        file: UploadFile,
        url: Annotated[str, Form()],
        client_name: Annotated[str, Form()],
        response: Response,
        bucket: Annotated[str, Form()] = "",
        lookup_time: Annotated[datetime | None, Form()] = None,
    ) -> dict[str, Any]:
        data = await file.read()
        key = bucket, content_hash_of(data)
        if key in images.stored:
            response.status_code = 200
        else:
            entry = _described(data) | {
                "url": url,
                "content_hash": key[1],
                "file_size_bytes": len(data),
                "original_filename": file.filename,
                "client_name": client_name,
                "lookup_time": _utcnow_like(lookup_time or datetime.now(UTC)),
                "created_at": _utcnow_like(datetime.now(UTC)),
            }
            images.stored[key] = entry, data
        return images.stored[key][0]

    @app.get("/images/meta/{content_hash}")
    async def meta(content_hash: str, bucket: str = "") -> dict[str, Any]:
        return images.get(bucket, content_hash)[0]

    @app.get("/images/{content_hash}")
    @app.get("/serve/{content_hash}")
    async def get_bytes(content_hash: str, bucket: str = "") -> Response:
        entry, data = images.get(bucket, content_hash)
        return Response(data, media_type=entry["content_type"])

    @app.delete("/images/{content_hash}", status_code=204)
    async def delete(content_hash: str, bucket: str = "") -> None:
        images.get(bucket, content_hash)
        del images.stored[bucket, content_hash]


def _utcnow_like(time: datetime) -> str:
    """Format a time as the documented `utcnow()` does: in UTC, without an offset."""
    return (time.astimezone(UTC) if time.tzinfo else time).replace(tzinfo=None).isoformat()


def _described(data: bytes) -> dict[str, Any]:
    try:
        picture = Image.open(BytesIO(data))
        perceptual_hash = str(imagehash.phash(picture))
    except (UnidentifiedImageError, OSError):
        undecoded = dict.fromkeys(("width", "height", "perceptual_hash"))
        return {"content_type": "application/octet-stream", **undecoded}
    return {
        "content_type": picture.get_format_mimetype(),
        "width": picture.width,
        "height": picture.height,
        "perceptual_hash": perceptual_hash,
    }


async def _refuse_unknown(request: Request) -> None:
    route = request.scope["route"].dependant
    known = {parameter.alias for parameter in route.query_params + route.body_params}
    unknown = {*request.query_params, *await request.form()} - known
    if unknown:
        errors = [
            {"type": "extra_forbidden", "loc": ("query", name), "msg": "Extra inputs", "input": ""}
            for name in sorted(unknown)
        ]
        raise RequestValidationError(errors)
