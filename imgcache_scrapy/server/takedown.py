"""The routes that delete captures by filters, and that list such acts."""

from collections.abc import Sequence
from typing import Annotated

from fastapi import FastAPI, Query, Request, Response
from pydantic import Field

from imgcache_scrapy.core.blocked import Source
from imgcache_scrapy.core.errors import (
    CountChangedError,
    NotFoundError,
    ReadOnlyError,
)
from imgcache_scrapy.core.hosts import stored_host
from imgcache_scrapy.core.image_url import ImageUrl
from imgcache_scrapy.core.limits import MAX_NUMBER
from imgcache_scrapy.core.selection import Selection
from imgcache_scrapy.engine.async_cache import AsyncImageCache
from imgcache_scrapy.server.answers import PAGE, page_response
from imgcache_scrapy.server.bodies import AnswerMemory
from imgcache_scrapy.server.listing import FilterQuery
from imgcache_scrapy.server.parameters import (
    FAILURES,
    Actor,
    AuditPosition,
    Host,
    Key,
    Limit,
    SourcePosition,
    Text,
    Time,
    Url,
    actor_of,
    image_url,
)
from imgcache_scrapy.server.problems import documented
from imgcache_scrapy.server.schemas import AuditEntry, BlockedSource

NotEmpty = Annotated[Text, Field(min_length=1)]
Positive = Annotated[int, Field(ge=1, le=MAX_NUMBER)]


class RemovalQuery(FilterQuery):
    """The parameters of a takedown."""

    # Without the empty values, which would leave nothing out.
    url_contains: NotEmpty | None = None
    host: Annotated[Host, Field(min_length=1)] | None = None
    content_type: NotEmpty | None = None
    min_width: Positive | None = None
    min_height: Positive | None = None
    min_bytes: Positive | None = None
    job: NotEmpty | None = None
    url: Url | None = None
    key: list[Key] | None = None
    before: Time | None = None
    all_captures: bool = False
    dry_run: bool = False
    block: bool = False
    expect: Annotated[int | None, Query(ge=0, le=MAX_NUMBER)] = None

    def selection(self) -> Selection:
        """Return the captures that are meant.

        Raises:
            InvalidRequestError: a filter is empty.
            CountChangedError: there is no filter.
        """
        url = _image_url(self.url, self.key)
        return Selection.of(
            self.conditions(), url, before=self.before, all_captures=self.all_captures
        )


def add_takedowns(app: FastAPI, images: AsyncImageCache, memory: AnswerMemory) -> None:
    """Add the routes for takedowns, for blocked hosts and URLs, and for the audit list."""

    @app.delete("/captures", responses=documented(ReadOnlyError, CountChangedError, *FAILURES))
    async def delete_captures(
        request: Request, query: Annotated[RemovalQuery, Query()], actor: Actor = None
    ) -> dict[str, int]:
        selection = query.selection()
        if query.expect is None and not query.dry_run:
            raise CountChangedError(
                "give expect=N, the number of captures that the same call with dry_run=true says"
            )
        return await images.delete_captures(
            selection,
            actor=actor_of(request, actor),
            expected=query.expect,
            dry_run=query.dry_run,
            block=query.block,
        )

    @app.get(
        "/audit", response_model=list[AuditEntry], responses={200: PAGE, **documented(*FAILURES)}
    )
    async def audit(request: Request, limit: Limit = None, after: AuditPosition = None) -> Response:
        return await page_response(memory, request, await images.audit_page(limit, after))

    @app.get(
        "/blocked/sources",
        response_model=list[BlockedSource],
        responses={200: PAGE, **documented(*FAILURES)},
    )
    async def blocked_sources(
        request: Request, limit: Limit = None, after: SourcePosition = None
    ) -> Response:
        page = await images.blocked_sources_page(limit, after)
        return await page_response(memory, request, page)

    @app.delete("/blocked/sources", responses=documented(ReadOnlyError, *FAILURES))
    async def unblock_sources(
        request: Request,
        host: Annotated[Host | None, Query()] = None,
        url: Annotated[Url | None, Query()] = None,
        key: Annotated[Key | None, Query()] = None,
        actor: Actor = None,
    ) -> dict[str, int]:
        found = _sources(host, url, key)
        return {
            "unblocked": sum(
                [await _unblock(images, each, actor_of(request, actor)) for each in found]
            )
        }


def _image_url(url: str | None, keys: Sequence[str] | None) -> ImageUrl | None:
    if not keys:
        return None if url is None else image_url(url, None)
    return ImageUrl(url or keys[0], keys[0], tuple(keys))


def _sources(host: str | None, url: str | None, key: str | None) -> list[Source]:
    found = [] if host is None else [Source("host", stored_host(host))]
    if url is not None or key is not None:
        found.append(Source("url", image_url(url or "", None).key if key is None else key))
    return found


async def _unblock(images: AsyncImageCache, source: Source, actor: str) -> bool:
    try:
        await images.unblock_source(source, actor)
    except NotFoundError:
        return False
    return True
