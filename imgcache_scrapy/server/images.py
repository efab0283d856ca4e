"""The routes that store, return and delete the bytes of images."""

from typing import Annotated, Any

from fastapi import FastAPI, Header, Request, Response
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from imgcache_scrapy.core.entry import UNKNOWN_TYPE
from imgcache_scrapy.core.errors import (
    BlockedError,
    NotFoundError,
    ReadOnlyError,
    TooLargeError,
)
from imgcache_scrapy.engine.async_cache import AsyncImageCache
from imgcache_scrapy.engine.reading import OpenImage, open_image, parts
from imgcache_scrapy.server.bodies import (
    PART_BYTES,
    WHOLE_BYTES,
    AnswerMemory,
    StreamedResponse,
    whole_response,
)
from imgcache_scrapy.server.metrics import Metrics
from imgcache_scrapy.server.parameters import (
    FAILURES,
    Actor,
    AnyBucket,
    ContentHash,
    Text,
    actor_of,
)
from imgcache_scrapy.server.problems import PROBLEM, TOO_SLOW, documented
from imgcache_scrapy.server.ranges import etag_matches, requested_range
from imgcache_scrapy.server.schemas import Entry
from imgcache_scrapy.server.uploads import UPLOAD_SCHEMA, read_upload

# Links of the OpenAPI document: from an entry to the routes of its bytes, and to a claim of them.
_LINKS: dict[str, Any] = {
    name: {
        "operationRef": f"#/paths/{path.replace('/', '~1')}/{method}",
        "parameters": {
            "content_hash": "$response.body#/content_hash",
            "bucket": "$response.body#/bucket",
        },
    }
    for name, method, path in (
        ("bytes", "get", "/images/{content_hash}"),
        ("page", "get", "/serve/{content_hash}"),
        ("delete", "delete", "/images/{content_hash}"),
    )
} | {
    "claim": {
        "operationRef": "#/paths/~1images~1claim/post",
        "requestBody": {"content_hash": "$response.body#/content_hash"},
    }
}
_ACTIVE_TYPES = frozenset({"image/svg+xml", UNKNOWN_TYPE})


def add_images(app: FastAPI, images: AsyncImageCache, metrics: Metrics) -> None:
    """Add the routes that store and delete images."""

    @app.post(
        "/images",
        status_code=201,
        response_model=Entry,
        responses={
            200: {
                "model": Entry,
                "description": "The image is known; the URL is recorded.",
                "links": _LINKS,
            },
            201: {"links": _LINKS},
            **documented(TooLargeError, ReadOnlyError, BlockedError, *FAILURES),
            **TOO_SLOW,
        },
        openapi_extra={"requestBody": UPLOAD_SCHEMA},
    )
    async def store(request: Request) -> Response:
        upload = await read_upload(request)
        entry = await images.store(**upload.arguments())
        metrics.count_store(entry)
        return JSONResponse(entry, status_code=201 if entry["created"] else 200)

    @app.delete(
        "/images/{content_hash}",
        status_code=204,
        response_class=Response,
        responses=documented(NotFoundError, ReadOnlyError, *FAILURES),
    )
    async def delete(
        request: Request, content_hash: ContentHash, bucket: Text = "", actor: Actor = None
    ) -> Response:
        await images.delete(content_hash, bucket, actor_of(request, actor))
        return Response(status_code=204)


def add_bytes(
    app: FastAPI, images: AsyncImageCache, memory: AnswerMemory, *, allows_embedding: bool = True
) -> None:
    """Add the routes that return the bytes of images.

    Args:
        app: gets the routes.
        images: the cache.
        memory: limits the memory of answers.
        allows_embedding: whether pages of any site may show what `/serve/` returns.
    """
    sharing_of_pictures = "cross-origin" if allows_embedding else "same-origin"
    content = {"*/*": {"schema": {"type": "string", "format": "binary"}}}
    image: dict[int | str, dict[str, Any]] = {
        200: {"description": "The image, as it was stored.", "content": content},
        206: {"description": "The requested part.", "content": content},
        304: {"description": "The client already has the image."},
        416: {"description": "The image has no such bytes.", "content": PROBLEM},
        **documented(NotFoundError, *FAILURES),
    }

    async def get_bytes(
        request: Request,
        *,
        content_hash: ContentHash,
        bucket: AnyBucket = None,
        if_none_match: Annotated[str | None, Header()] = None,
        if_range: Annotated[str | None, Header()] = None,
        range_header: Annotated[str | None, Header(alias="Range")] = None,
    ) -> Response:
        etag = f'"{content_hash}"'
        is_for_browsers = request.scope["path"].startswith("/serve/")
        sharing = sharing_of_pictures if is_for_browsers else "same-site"
        if etag_matches(if_none_match, etag):
            known = await images.type_and_size(content_hash, bucket)
            if known is not None:
                return Response(status_code=304, headers=_headers(known[0], etag, sharing))
        image, reserved = await _open(images, memory, content_hash, bucket)
        headers = _headers(image.content_type, etag, sharing)
        try:
            part = requested_range(range_header, if_range, etag, image.size)
        except HTTPException:
            memory.release(reserved)
            raise
        if part is not None:
            headers["Content-Range"] = f"bytes {part[0]}-{part[-1]}/{image.size}"
        wanted = range(image.size) if part is None else part
        kind: dict[str, Any] = {
            "status_code": 200 if part is None else 206,
            "headers": headers,
            "media_type": image.content_type,
        }
        if image.data is not None:
            data = image.data[wanted.start : wanted.stop]
            return whole_response(memory, data, reserved=reserved, **kind)
        found = parts(images, content_hash, image.size, wanted, PART_BYTES)
        return StreamedResponse(memory, memory.limited(found), len(wanted), **kind)

    for path in ("/images/{content_hash}", "/serve/{content_hash}"):
        for add in (app.get, app.head):
            add(path, response_class=Response, responses=image)(get_bytes)


async def _open(
    images: AsyncImageCache, memory: AnswerMemory, content_hash: str, bucket: str | None
) -> tuple[OpenImage, int]:
    """Open an image; return also how many bytes of memory are reserved for it."""
    reserved = WHOLE_BYTES if memory.reserve(WHOLE_BYTES) else 0
    kept = 0
    try:
        # All of it is checked, also if a part is wanted, because the hash is that of the whole.
        image = await open_image(images, content_hash, bucket, reserved or PART_BYTES)
        kept = min(len(image.data or b""), reserved)
    finally:
        memory.release(reserved - kept)
    return image, kept


def image_headers(content_type: str, etag: str, sharing: str) -> dict[str, str]:
    """Return headers that let clients cache an image forever and stop browsers running scripts.

    Args:
        content_type: the type of the image.
        etag: its entity tag, in quotes.
        sharing: the pages that may show it: `same-origin`, `same-site` or `cross-origin`.
    """
    return {
        "ETag": etag,
        "Cache-Control": "private, max-age=31536000, immutable",
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "default-src 'none'; sandbox",
        "Content-Disposition": "attachment" if content_type in _ACTIVE_TYPES else "inline",
        "Cross-Origin-Resource-Policy": sharing,
    }


def _headers(content_type: str, etag: str, sharing: str) -> dict[str, str]:
    return {**image_headers(content_type, etag, sharing), "Accept-Ranges": "bytes"}
