"""The routes for blocked images, and for the failures of sites that the cache remembers."""

from typing import Annotated

from fastapi import Body, FastAPI, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from imgcache_scrapy.core.errors import NotFoundError, ReadOnlyError, TooLargeError
from imgcache_scrapy.core.failures import MAX_SECONDS, SeenFailure
from imgcache_scrapy.core.limits import HASH_PATTERN, MAX_BATCH_URLS, REASON_PATTERN
from imgcache_scrapy.engine.async_cache import AsyncImageCache
from imgcache_scrapy.server.answers import PAGE, entries_response, page_response
from imgcache_scrapy.server.bodies import AnswerMemory
from imgcache_scrapy.server.parameters import (
    FAILURES,
    Actor,
    AnyBucket,
    BlockedPosition,
    ContentHash,
    FailurePosition,
    Key,
    Limit,
    Text,
    Time,
    Url,
    actor_of,
    image_url,
    with_keys,
)
from imgcache_scrapy.server.problems import TOO_SLOW, documented
from imgcache_scrapy.server.schemas import BlockedImage, Entry, Failure

# A link of the OpenAPI document: from a blocked image to the route that allows it again.
_LINKS = {
    "unblock": {
        "operationRef": "#/paths/~1blocked~1{content_hash}/delete",
        "parameters": {"content_hash": "$response.body#/content_hash"},
    }
}


class GivenFailure(BaseModel):
    """A failure that a crawl saw.

    Attributes:
        url: the URL that was asked, with its signature.
        key: the cache key of the URL; None for the default one.
        reason: why it gave no image.
        http_status: the status of the site's response; None if there was none.
        seconds: for how long to remember it.
    """

    url: Url
    key: Key | None = None
    reason: Annotated[str, Field(pattern=REASON_PATTERN)]
    http_status: Annotated[int | None, Field(ge=400, le=599)] = None
    seconds: Annotated[float, Field(gt=0, le=MAX_SECONDS)]

    def seen(self) -> SeenFailure:
        """Return it as the engine takes it."""
        url = image_url(self.url, self.key)
        return SeenFailure(url, self.reason, self.http_status, self.seconds)


def add_refusals(app: FastAPI, images: AsyncImageCache, memory: AnswerMemory) -> None:
    """Add the routes for blocked images and remembered failures."""
    _add_blocked(app, images, memory)
    _add_failures(app, images, memory)


def _add_blocked(app: FastAPI, images: AsyncImageCache, memory: AnswerMemory) -> None:

    @app.get(
        "/blocked",
        response_model=list[BlockedImage],
        responses={200: PAGE, **documented(*FAILURES)},
    )
    async def blocked(
        request: Request, limit: Limit = None, after: BlockedPosition = None
    ) -> Response:
        return await page_response(memory, request, await images.blocked_page(limit, after))

    @app.post(
        "/blocked",
        response_model=BlockedImage,
        responses={
            200: {"links": _LINKS},
            **documented(ReadOnlyError, TooLargeError, *FAILURES),
            **TOO_SLOW,
        },
    )
    async def block(
        request: Request,
        content_hash: Annotated[str, Body(pattern=HASH_PATTERN)],
        reason: Annotated[Text, Body()] = "",
        actor: Actor = None,
    ) -> Response:
        who = actor_of(request, actor)
        return JSONResponse(await images.block(content_hash, reason, who))

    @app.get("/blocked/suggestions", response_model=list[Entry], responses=documented(*FAILURES))
    async def suggestions(bucket: AnyBucket = None, limit: Limit = None) -> Response:
        found = await images.suggest_blocked(bucket, limit)
        return await entries_response(memory, found, {})

    @app.delete(
        "/blocked/{content_hash}",
        status_code=204,
        response_class=Response,
        responses=documented(NotFoundError, ReadOnlyError, *FAILURES),
    )
    async def unblock(request: Request, content_hash: ContentHash, actor: Actor = None) -> Response:
        await images.unblock(content_hash, actor_of(request, actor))
        return Response(status_code=204)


def _add_failures(app: FastAPI, images: AsyncImageCache, memory: AnswerMemory) -> None:
    @app.get(
        "/failures", response_model=list[Failure], responses={200: PAGE, **documented(*FAILURES)}
    )
    async def failures(
        request: Request,
        *,
        host: Annotated[Text | None, Query()] = None,
        since: Annotated[Time | None, Query()] = None,
        bucket: AnyBucket = None,
        limit: Limit = None,
        after: FailurePosition = None,
    ) -> Response:
        page = await images.failures_page(host, since, bucket, limit, after)
        return await page_response(memory, request, page)

    @app.post(
        "/failures",
        status_code=204,
        response_class=Response,
        responses={**documented(ReadOnlyError, TooLargeError, *FAILURES), **TOO_SLOW},
    )
    async def remember(
        failures: Annotated[list[GivenFailure], Body(max_length=MAX_BATCH_URLS)],
        bucket: Annotated[Text, Body()] = "",
    ) -> Response:
        seen = await with_keys(
            (each.url for each in failures), lambda: [each.seen() for each in failures]
        )
        await images.remember_failures(seen, bucket)
        return Response(status_code=204)
