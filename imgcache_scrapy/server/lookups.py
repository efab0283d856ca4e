"""The routes that answer with entries."""

from typing import Annotated

from fastapi import Body, FastAPI, Query, Response
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from imgcache_scrapy.core.errors import (
    InvalidRequestError,
    NotFoundError,
    TooLargeError,
    UnavailableError,
    not_found,
)
from imgcache_scrapy.core.limits import (
    MAX_BATCH_URLS,
    PERCEPTUAL_HASH_BITS,
    PERCEPTUAL_HASH_PATTERN,
)
from imgcache_scrapy.core.urls import without_fragment
from imgcache_scrapy.engine.async_cache import AsyncImageCache
from imgcache_scrapy.server.metrics import Metrics
from imgcache_scrapy.server.parameters import (
    REFUSALS,
    AnyBucket,
    ContentHash,
    GivenUrl,
    Limit,
    Text,
    Url,
)
from imgcache_scrapy.server.problems import TOO_SLOW, documented
from imgcache_scrapy.server.schemas import Entry


def add_lookups(app: FastAPI, images: AsyncImageCache, metrics: Metrics) -> None:
    """Add the routes that answer with entries."""
    failing = (InvalidRequestError, UnavailableError, *REFUSALS)

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


def refuse_methods(app: FastAPI) -> None:
    """Answer 405 on paths whose last part would otherwise be refused as a malformed hash."""

    async def refuse() -> None:
        raise HTTPException(405)

    for path in ("/images/lookup", "/images/search", "/images/similar"):
        app.add_api_route(path, refuse, methods=["DELETE", "HEAD"], include_in_schema=False)
