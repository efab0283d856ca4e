"""The routes that list and count captures by filters."""

from typing import Annotated, Any

from fastapi import FastAPI, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from imgcache_scrapy.core.errors import UnavailableError
from imgcache_scrapy.core.filters import Filters, Group, checked_filters
from imgcache_scrapy.core.limits import MAX_LIMIT, MAX_NUMBER, SEARCH_POSITION_PATTERN
from imgcache_scrapy.engine.async_cache import AsyncImageCache
from imgcache_scrapy.server.answers import PAGE, page_response
from imgcache_scrapy.server.bodies import AnswerMemory
from imgcache_scrapy.server.parameters import FAILURES, REFUSALS, Host, Text, Time, Url
from imgcache_scrapy.server.problems import documented
from imgcache_scrapy.server.schemas import Entry

Number = Annotated[int, Field(ge=0, le=MAX_NUMBER)]


class FilterQuery(BaseModel):
    """The conditions of a list; they are documented in `Filters`."""

    # A wrong name must not be taken for no condition.
    model_config = ConfigDict(extra="forbid")

    url_contains: Text | None = None
    host: Host | None = None
    bucket: Text | None = None
    client_name: Annotated[Text, Field(min_length=1)] | None = None
    content_type: Text | None = None
    since: Time | None = None
    until: Time | None = None
    min_width: Number | None = None
    min_height: Number | None = None
    min_bytes: Number | None = None
    max_bytes: Number | None = None
    damaged: bool | None = None
    page_url: Url | None = None
    job: Text | None = None

    def conditions(self) -> dict[str, Any]:
        """Return the conditions by their names, without what a subclass adds."""
        return self.model_dump(include=set(FilterQuery.model_fields))

    def filters(self) -> Filters:
        """Return the conditions as the engine takes them."""
        return checked_filters(self.conditions())


class ListQuery(FilterQuery):
    """The parameters of a list."""

    limit: Annotated[int, Field(ge=1, le=MAX_LIMIT)] | None = None
    after: Annotated[str, Field(pattern=SEARCH_POSITION_PATTERN)] | None = None


def add_lists(app: FastAPI, images: AsyncImageCache, memory: AnswerMemory) -> None:
    """Add the routes that list and count."""

    @app.get("/images", response_model=list[Entry], responses={200: PAGE, **documented(*FAILURES)})
    async def list_images(request: Request, query: Annotated[ListQuery, Query()]) -> Response:
        page = await images.list_page(query.filters(), query.limit, query.after)
        return await page_response(memory, request, page)

    @app.get("/images/count", responses=documented(*FAILURES))
    async def count(query: Annotated[FilterQuery, Query()]) -> dict[str, int]:
        return await images.count(query.filters())

    @app.get("/stats", responses=documented(*FAILURES))
    async def stats(
        by: Group | None = None,
    ) -> dict[str, int] | dict[str, dict[str, int]]:
        return await (images.stats() if by is None else images.stats_by(by))

    @app.get("/buckets", responses=documented(UnavailableError, *REFUSALS))
    async def buckets() -> dict[str, int]:
        return await images.buckets()
