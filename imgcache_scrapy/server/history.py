"""The routes that answer with histories: all captures of a URL, or of an image."""

from typing import Annotated

from fastapi import FastAPI, Query, Request, Response

from imgcache_scrapy.engine.async_cache import AsyncImageCache
from imgcache_scrapy.server.answers import PAGE, page_response
from imgcache_scrapy.server.bodies import AnswerMemory
from imgcache_scrapy.server.parameters import (
    FAILURES,
    AnyBucket,
    ContentHash,
    Key,
    Limit,
    SearchPosition,
    Url,
    image_url,
)
from imgcache_scrapy.server.problems import documented
from imgcache_scrapy.server.schemas import Entry


def add_histories(app: FastAPI, images: AsyncImageCache, memory: AnswerMemory) -> None:
    """Add the routes that answer with histories."""
    pages = {200: PAGE, **documented(*FAILURES)}

    @app.get("/images/history", response_model=list[Entry], responses=pages)
    async def history(
        request: Request,
        *,
        url: Annotated[Url, Query()],
        key: Annotated[Key | None, Query()] = None,
        bucket: AnyBucket = None,
        limit: Limit = None,
        after: SearchPosition = None,
    ) -> Response:
        keys = image_url(url, key).keys
        page = await images.history_page(keys, bucket, limit, after)
        return await page_response(memory, request, page)

    @app.get("/images/captures/{content_hash}", response_model=list[Entry], responses=pages)
    async def captures(
        request: Request,
        content_hash: ContentHash,
        *,
        bucket: AnyBucket = None,
        limit: Limit = None,
        after: SearchPosition = None,
    ) -> Response:
        page = await images.captures_page(content_hash, bucket, limit, after)
        return await page_response(memory, request, page)
