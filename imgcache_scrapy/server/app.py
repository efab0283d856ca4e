"""The REST API of the cache, the same one for a service and for the embedded road."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import Body, FastAPI, Path, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import AfterValidator

from imgcache_scrapy.engine.async_cache import AsyncImageCache
from imgcache_scrapy.engine.cache import DEFAULT_FOLDER, UNKNOWN_TYPE, ImageCache, open_cache
from imgcache_scrapy.entry import (
    HASH_PATTERN,
    MAX_DISTANCE,
    MAX_LIMIT,
    PERCEPTUAL_HASH_PATTERN,
    Entry,
)
from imgcache_scrapy.errors import (
    InvalidRequestError,
    NotFoundError,
    TooLargeError,
    UnavailableError,
)
from imgcache_scrapy.server.problems import answer_with_problems, documented
from imgcache_scrapy.server.uploads import UPLOAD_SCHEMA, Text, read_upload
from imgcache_scrapy.urls import checked

MAX_BATCH = 1000
_ACTIVE_TYPES = frozenset({"image/svg+xml", UNKNOWN_TYPE})


def _checked(url: str) -> str:
    try:
        return checked(url)
    except InvalidRequestError as error:
        raise ValueError(str(error)) from error


Url = Annotated[str, AfterValidator(_checked)]
ContentHash = Annotated[str, Path(pattern=HASH_PATTERN)]
AnyBucket = Annotated[Text | None, Query()]
Limit = Annotated[int | None, Query(ge=1, le=MAX_LIMIT)]


def create_app(cache: ImageCache, *, owns_cache: bool = False) -> FastAPI:
    """Make the app of a cache.

    Args:
        cache: the cache.
        owns_cache: close it when the app's lifespan ends.

    Returns:
        The app.
    """
    images = AsyncImageCache(cache)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield
        images.close()
        if owns_cache:
            cache.close()

    app = FastAPI(
        title="imgcache",
        summary="One cache of images: by URL, by content, by likeness.",
        lifespan=lifespan,
    )
    answer_with_problems(app)
    _add_lookups(app, images)
    _add_images(app, images)
    return app


def app_from_environment() -> FastAPI:
    """Make the app of a service process: its cache is where the environment says."""
    return create_app(open_cache(DEFAULT_FOLDER), owns_cache=True)


def _add_lookups(app: FastAPI, images: AsyncImageCache) -> None:
    """Add the routes that answer with entries."""
    failing = (InvalidRequestError, UnavailableError)

    @app.get("/health", responses=documented(UnavailableError))
    async def health() -> dict[str, str]:
        return await images.health()

    @app.get("/stats", responses=documented(UnavailableError))
    async def stats() -> dict[str, int]:
        return await images.totals()

    @app.get("/images/lookup", response_model=Entry, responses=documented(NotFoundError, *failing))
    async def lookup(url: Annotated[Url, Query()], bucket: AnyBucket = None) -> Response:
        entry = await images.lookup(url, bucket)
        if entry is None:
            raise NotFoundError("no image is known under this URL")
        return JSONResponse(entry)

    @app.post(
        "/images/lookup", response_model=dict[str, dict[str, Entry]], responses=documented(*failing)
    )
    async def lookup_many(
        urls: Annotated[list[Url], Body(max_length=MAX_BATCH)],
        bucket: Annotated[Text | None, Body()] = None,
    ) -> Response:
        return JSONResponse({"entries": await images.lookup_many(urls, bucket)})

    @app.get("/images/search", response_model=list[Entry], responses=documented(*failing))
    async def search(url_contains: Text, bucket: AnyBucket = None, limit: Limit = None) -> Response:
        return JSONResponse(await images.search(url_contains, bucket, limit))

    @app.get("/images/similar", response_model=list[Entry], responses=documented(*failing))
    async def similar(
        perceptual_hash: Annotated[str, Query(pattern=PERCEPTUAL_HASH_PATTERN)],
        max_hamming_distance: Annotated[int, Query(ge=0, le=MAX_DISTANCE)] = 4,
        bucket: AnyBucket = None,
        limit: Limit = None,
    ) -> Response:
        found = await images.similar(int(perceptual_hash, 16), max_hamming_distance, bucket, limit)
        return JSONResponse(found)

    @app.get(
        "/images/meta/{content_hash}",
        response_model=Entry,
        responses=documented(NotFoundError, *failing),
    )
    async def meta(content_hash: ContentHash, bucket: Text = "") -> Response:
        entry = await images.get_meta(content_hash, bucket)
        if entry is None:
            raise NotFoundError(f"no image {content_hash} here")
        return JSONResponse(entry)


def _add_images(app: FastAPI, images: AsyncImageCache) -> None:
    """Add the routes that take or give an image's bytes, or remove them."""
    failing = (InvalidRequestError, UnavailableError)
    image: dict[int | str, dict[str, Any]] = {
        200: {
            "description": "The image, as it was stored.",
            "content": {"image/*": {"schema": {"type": "string", "format": "binary"}}},
        }
    }

    @app.post(
        "/images",
        status_code=201,
        response_model=Entry,
        responses={
            200: {"model": Entry, "description": "The image is known; the URL is recorded."},
            **documented(TooLargeError, *failing),
        },
        openapi_extra={"requestBody": UPLOAD_SCHEMA},
    )
    async def store(request: Request) -> Response:
        upload = await read_upload(request)
        fields = upload.model_dump(exclude={"file"})
        entry = await images.store(data=upload.file, **fields)
        return JSONResponse(entry, status_code=201 if entry["created"] else 200)

    @app.get(
        "/images/{content_hash}",
        response_class=Response,
        responses={**image, **documented(NotFoundError, *failing)},
    )
    @app.get(
        "/serve/{content_hash}",
        response_class=Response,
        responses={**image, **documented(NotFoundError, *failing)},
    )
    async def get_bytes(content_hash: ContentHash, bucket: Text = "") -> Response:
        data, content_type = await images.get_bytes(content_hash, bucket)
        return Response(data, media_type=content_type, headers=_safe_headers(content_type))

    @app.delete(
        "/images/{content_hash}",
        status_code=204,
        response_class=Response,
        responses=documented(NotFoundError, *failing),
    )
    async def delete(content_hash: ContentHash, bucket: Text = "") -> Response:
        await images.delete(content_hash, bucket)
        return Response(status_code=204)


def _safe_headers(content_type: str) -> dict[str, str]:
    """Keep a browser from running what somebody's site served as a picture."""
    disposition = "attachment" if content_type in _ACTIVE_TYPES else "inline"
    return {
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "default-src 'none'; sandbox",
        "Content-Disposition": disposition,
    }
