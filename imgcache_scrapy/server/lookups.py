"""The routes that answer with entries."""

from typing import Annotated

from fastapi import Body, FastAPI, Query, Request, Response
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from imgcache_scrapy.core.errors import (
    NotFoundError,
    TooLargeError,
    not_found,
)
from imgcache_scrapy.core.image_url import keys_of
from imgcache_scrapy.core.limits import (
    MAX_BATCH_URLS,
    PERCEPTUAL_HASH_BITS,
    PERCEPTUAL_HASH_PATTERN,
)
from imgcache_scrapy.engine.async_cache import AsyncImageCache
from imgcache_scrapy.server.answers import PAGE, entries_response, page_response
from imgcache_scrapy.server.bodies import AnswerMemory
from imgcache_scrapy.server.metrics import Metrics
from imgcache_scrapy.server.parameters import (
    FAILURES,
    AnyBucket,
    ContentHash,
    GivenUrl,
    Key,
    Limit,
    SearchPosition,
    SimilarPosition,
    Text,
    Url,
    image_url,
    sent_url,
    with_keys,
)
from imgcache_scrapy.server.problems import TOO_SLOW, documented
from imgcache_scrapy.server.schemas import Entry, Found


def add_lookups(
    app: FastAPI, images: AsyncImageCache, metrics: Metrics, memory: AnswerMemory
) -> None:
    """Add the routes that answer with entries."""
    # Of their own, so that lookups have memory while long lists are not read.
    lookup_memory = AnswerMemory()
    pages = {200: PAGE, **documented(*FAILURES)}

    @app.get("/images/lookup", response_model=Entry, responses=documented(NotFoundError, *FAILURES))
    async def lookup(
        url: Annotated[Url, Query()],
        key: Annotated[Key | None, Query()] = None,
        bucket: AnyBucket = None,
        accept: Annotated[Text | None, Query()] = None,
    ) -> Response:
        its_url = image_url(url, key)
        if len(its_url.keys) == 1:
            entry = await images.lookup(its_url.key, bucket, accept)
        else:
            found = await images.lookup_many(its_url.keys, bucket, accept)
            entry = its_url.newest(found.entries)
        metrics.count_lookups([] if entry is None else [entry], int(entry is None))
        if entry is None:
            raise NotFoundError("the cache has no image of this URL")
        return JSONResponse(entry)

    @app.post(
        "/images/lookup",
        response_model=Found,
        responses={**documented(TooLargeError, *FAILURES), **TOO_SLOW},
    )
    async def lookup_many(
        urls: Annotated[list[GivenUrl], Body(max_length=MAX_BATCH_URLS)],
        keys: Annotated[dict[GivenUrl, Key] | None, Body()] = None,
        bucket: Annotated[Text | None, Body()] = None,
        accept: Annotated[Text | None, Body()] = None,
        failures_of: Annotated[list[GivenUrl] | None, Body(max_length=MAX_BATCH_URLS)] = None,
    ) -> Response:
        named = keys or {}
        asked = await with_keys(urls, lambda: {url: image_url(url, named.get(url)) for url in urls})
        further = failures_of or []
        wanted = {url: each.url for url, each in asked.items()}
        wanted |= await with_keys(further, lambda: {url: sent_url(url) for url in further})
        found = await images.lookup_many(keys_of(asked.values()), bucket, accept, wanted.values())
        entries = {
            url: entry
            for url, each in asked.items()
            if (entry := each.newest(found.entries)) is not None
        }
        failures = {
            url: {**found.failures[sent], "url": url}
            for url, sent in wanted.items()
            if sent in found.failures and url not in entries
        }
        metrics.count_lookups(entries.values(), len(urls) - len(entries))
        blocked = [
            url
            for url in (wanted if found.blocked else ())
            if url in found.blocked
            or (url in asked and not found.blocked.isdisjoint(asked[url].keys))
        ]
        answer = {"entries": entries, "failures": failures, "blocked": blocked}
        return await entries_response(lookup_memory, answer, {})

    @app.get("/images/search", response_model=list[Entry], responses=pages)
    async def search(
        request: Request,
        url_contains: Text,
        bucket: AnyBucket = None,
        limit: Limit = None,
        after: SearchPosition = None,
    ) -> Response:
        return await page_response(
            memory, request, await images.search_page(url_contains, bucket, limit, after)
        )

    @app.get("/images/similar", response_model=list[Entry], responses=pages)
    async def similar(
        request: Request,
        *,
        perceptual_hash: Annotated[str, Query(pattern=PERCEPTUAL_HASH_PATTERN)],
        max_hamming_distance: Annotated[int, Query(ge=0, le=PERCEPTUAL_HASH_BITS)] = 4,
        bucket: AnyBucket = None,
        limit: Limit = None,
        after: SimilarPosition = None,
    ) -> Response:
        metrics.count_similar()
        page = await images.similar_page(
            perceptual_hash, max_hamming_distance, bucket, limit, after
        )
        return await page_response(memory, request, page)

    @app.get(
        "/images/meta/{content_hash}",
        response_model=Entry,
        responses=documented(NotFoundError, *FAILURES),
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

    names = ("count", "history", "lookup", "search", "similar")
    for path in (*(f"/images/{name}" for name in names), "/blocked/suggestions"):
        app.add_api_route(path, refuse, methods=["DELETE", "HEAD"], include_in_schema=False)
    others = ["DELETE", "GET", "HEAD"]
    for path in ("/images/claim", "/images/claims"):
        app.add_api_route(path, refuse, methods=others, include_in_schema=False)
