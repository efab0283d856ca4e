"""The routes of the REST API, and the app of a service process."""

import gc
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path as FilePath
from typing import Annotated, Any

from fastapi import Body, FastAPI, Header, Path, Query, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from starlette.exceptions import HTTPException

from imgcache_scrapy.core.entry import UNKNOWN_TYPE
from imgcache_scrapy.core.errors import (
    InvalidRequestError,
    NotFoundError,
    TooLargeError,
    UnauthorizedError,
    UnavailableError,
    not_found,
)
from imgcache_scrapy.core.limits import (
    HASH_PATTERN,
    MAX_BATCH_URLS,
    MAX_LIMIT,
    PERCEPTUAL_HASH_BITS,
    PERCEPTUAL_HASH_PATTERN,
)
from imgcache_scrapy.core.urls import without_fragment
from imgcache_scrapy.engine.async_cache import AsyncImageCache
from imgcache_scrapy.engine.cache import DEFAULT_FOLDER, ImageCache
from imgcache_scrapy.server.guard import BodyLimitMiddleware, TokenMiddleware
from imgcache_scrapy.server.metrics import Metrics, TimingMiddleware
from imgcache_scrapy.server.problems import PROBLEM, TOO_SLOW, answer_with_problems, documented
from imgcache_scrapy.server.ranges import etag_matches, requested_range
from imgcache_scrapy.server.schemas import Entry
from imgcache_scrapy.server.uploads import UPLOAD_SCHEMA, GivenUrl, Text, Url, read_upload

# Errors that every route may answer, except for `/health`.
_TOKEN_ERRORS = (UnauthorizedError,)
# Links of the OpenAPI document: from an entry to the routes of its bytes.
_LINKS = {
    name: {
        "operationRef": f"#/paths/{path.replace('/', '~1')}/get",
        "parameters": {
            "content_hash": "$response.body#/content_hash",
            "bucket": "$response.body#/bucket",
        },
    }
    for name, path in (("bytes", "/images/{content_hash}"), ("page", "/serve/{content_hash}"))
}
_ACTIVE_TYPES = frozenset({"image/svg+xml", UNKNOWN_TYPE})

ContentHash = Annotated[str, Path(pattern=HASH_PATTERN)]
AnyBucket = Annotated[Text | None, Query()]
Limit = Annotated[int | None, Query(ge=1, le=MAX_LIMIT)]


def create_app(cache: ImageCache, *, token: str | None = None, owns_cache: bool = False) -> FastAPI:
    """Create the app of a cache.

    Args:
        cache: the cache.
        token: the bearer token that requests need, except for `/health`; None for no token.
        owns_cache: whether to close the cache when the lifespan of the app ends.

    Returns:
        The app.
    """
    images = AsyncImageCache(lambda: cache, lambda each: each.close() if owns_cache else None)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield
        await images.aclose()

    app = FastAPI(
        title="imgcache",
        summary="A cache of images: find them by URL, by content or by similarity.",
        lifespan=lifespan,
    )
    metrics = Metrics()
    # The middleware that is added last runs first.
    app.add_middleware(BodyLimitMiddleware)
    if token:
        app.add_middleware(TokenMiddleware, token=token)
    app.add_middleware(TimingMiddleware, metrics=metrics)
    answer_with_problems(app)
    _add_state(app, images, metrics)
    _add_lookups(app, images, metrics)
    _refuse_methods(app)
    _add_images(app, images, metrics)
    return app


def app_from_environment() -> FastAPI:
    """Create the app of a service process from the environment.

    `IMGCACHE_FOLDER` is the folder of the cache, by default `./imgcache`. `IMGCACHE_TOKEN` is the
    token, and `ImageCache.in_folder` reads the other variables.
    """
    token = os.environ.get("IMGCACHE_TOKEN")
    folder = FilePath(os.environ.get("IMGCACHE_FOLDER") or DEFAULT_FOLDER)
    app = create_app(ImageCache.in_folder(folder, upgrade=False), token=token, owns_cache=True)
    # Exclude the loaded modules from garbage collection: scanning them blocks all requests for
    # about 50 ms each time.
    gc.collect()
    gc.freeze()
    return app


def _add_state(app: FastAPI, images: AsyncImageCache, metrics: Metrics) -> None:
    """Add the routes that report the state of the cache."""

    @app.get("/health", responses=documented(UnavailableError))
    async def health() -> dict[str, str]:
        return await images.health()

    @app.get("/stats", responses=documented(UnavailableError, *_TOKEN_ERRORS))
    async def stats() -> dict[str, int]:
        return await images.stats()

    @app.get("/buckets", responses=documented(UnavailableError, *_TOKEN_ERRORS))
    async def buckets() -> dict[str, int]:
        return await images.buckets()

    @app.get("/metrics", response_class=PlainTextResponse, responses=documented(*_TOKEN_ERRORS))
    async def prometheus() -> Response:
        return Response(metrics.text(), media_type=CONTENT_TYPE_PLAIN_0_0_4)


def _add_lookups(app: FastAPI, images: AsyncImageCache, metrics: Metrics) -> None:
    """Add the routes that answer with entries."""
    failing = (InvalidRequestError, UnavailableError, *_TOKEN_ERRORS)

    @app.get("/images/lookup", response_model=Entry, responses=documented(NotFoundError, *failing))
    async def lookup(url: Annotated[Url, Query()], bucket: AnyBucket = None) -> Response:
        entry = await images.lookup(url, bucket)
        metrics.count_lookups(int(entry is not None), int(entry is None))
        if entry is None:
            raise NotFoundError("the cache has no image of this URL")
        return JSONResponse(entry)

    @app.post(
        "/images/lookup",
        response_model=dict[str, dict[str, Entry]],
        responses={**documented(TooLargeError, *failing), **TOO_SLOW},
    )
    async def lookup_many(
        urls: Annotated[list[GivenUrl], Body(max_length=MAX_BATCH_URLS)],
        bucket: Annotated[Text | None, Body()] = None,
    ) -> Response:
        keys = {url: without_fragment(url) for url in urls}
        found = await images.lookup_many(list(dict.fromkeys(keys.values())), bucket)
        entries = {url: found[key] for url, key in keys.items() if key in found}
        metrics.count_lookups(len(entries), len(urls) - len(entries))
        return JSONResponse({"entries": entries})

    @app.get("/images/search", response_model=list[Entry], responses=documented(*failing))
    async def search(url_contains: Text, bucket: AnyBucket = None, limit: Limit = None) -> Response:
        return JSONResponse(await images.search(url_contains, bucket, limit))

    @app.get("/images/similar", response_model=list[Entry], responses=documented(*failing))
    async def similar(
        perceptual_hash: Annotated[str, Query(pattern=PERCEPTUAL_HASH_PATTERN)],
        max_hamming_distance: Annotated[int, Query(ge=0, le=PERCEPTUAL_HASH_BITS)] = 4,
        bucket: AnyBucket = None,
        limit: Limit = None,
    ) -> Response:
        metrics.count_similar()
        found = await images.similar(perceptual_hash, max_hamming_distance, bucket, limit)
        return JSONResponse(found)

    @app.get(
        "/images/meta/{content_hash}",
        response_model=Entry,
        responses=documented(NotFoundError, *failing),
    )
    async def meta(content_hash: ContentHash, bucket: AnyBucket = None) -> Response:
        entry = await images.get_meta(content_hash, bucket)
        if entry is None:
            raise not_found(content_hash, bucket)
        return JSONResponse(entry)


def _refuse_methods(app: FastAPI) -> None:
    """Answer 405 on paths whose last part would otherwise be refused as a malformed hash."""

    async def refuse() -> None:
        raise HTTPException(405)

    for path in ("/images/lookup", "/images/search", "/images/similar"):
        app.add_api_route(path, refuse, methods=["DELETE", "HEAD"], include_in_schema=False)


def _add_images(app: FastAPI, images: AsyncImageCache, metrics: Metrics) -> None:
    """Add the routes that store, return and delete the bytes of images."""
    failing = (InvalidRequestError, UnavailableError, *_TOKEN_ERRORS)
    content = {"*/*": {"schema": {"type": "string", "format": "binary"}}}
    image: dict[int | str, dict[str, Any]] = {
        200: {"description": "The image, as it was stored.", "content": content},
        206: {"description": "The requested part.", "content": content},
        304: {"description": "The client already has the image."},
        416: {"description": "The image has no such bytes.", "content": PROBLEM},
        **documented(NotFoundError, *failing),
    }

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
            **documented(TooLargeError, *failing),
            **TOO_SLOW,
        },
        openapi_extra={"requestBody": UPLOAD_SCHEMA},
    )
    async def store(request: Request) -> Response:
        upload = await read_upload(request)
        fields = upload.model_dump(exclude={"file", "url"})
        entry = await images.store(upload.url, upload.file, **fields)
        metrics.count_store(entry)
        return JSONResponse(entry, status_code=201 if entry["created"] else 200)

    async def get_bytes(
        content_hash: ContentHash,
        bucket: AnyBucket = None,
        if_none_match: Annotated[str | None, Header()] = None,
        if_range: Annotated[str | None, Header()] = None,
        range_header: Annotated[str | None, Header(alias="Range")] = None,
    ) -> Response:
        etag = f'"{content_hash}"'
        if etag_matches(if_none_match, etag):
            content_type = await images.content_type(content_hash, bucket)
            if content_type is not None:
                return Response(status_code=304, headers=_headers(content_type, etag))
        data, content_type = await images.get_image(content_hash, bucket)
        headers = _headers(content_type, etag)
        part = requested_range(range_header, if_range, etag, len(data))
        if part is None:
            return Response(data, media_type=content_type, headers=headers)
        # Cut after reading, because the hash is that of the whole image.
        headers["Content-Range"] = f"bytes {part[0]}-{part[-1]}/{len(data)}"
        return Response(data[part.start : part.stop], 206, headers, content_type)

    for path in ("/images/{content_hash}", "/serve/{content_hash}"):
        for add in (app.get, app.head):
            add(path, response_class=Response, responses=image)(get_bytes)

    @app.delete(
        "/images/{content_hash}",
        status_code=204,
        response_class=Response,
        responses=documented(NotFoundError, *failing),
    )
    async def delete(content_hash: ContentHash, bucket: Text = "") -> Response:
        await images.delete(content_hash, bucket)
        return Response(status_code=204)


def _headers(content_type: str, etag: str) -> dict[str, str]:
    """Return headers that let clients cache an image forever and stop browsers running scripts."""
    return {
        "ETag": etag,
        "Cache-Control": "private, max-age=31536000, immutable",
        "Accept-Ranges": "bytes",
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "default-src 'none'; sandbox",
        "Content-Disposition": "attachment" if content_type in _ACTIVE_TYPES else "inline",
        # Pages of the same site may show the image.
        "Cross-Origin-Resource-Policy": "same-site",
    }
