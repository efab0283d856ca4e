"""The routes for the uses of images: by pages, items, spiders and jobs."""

from typing import Annotated, Any

from fastapi import Body, FastAPI, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from imgcache_scrapy.core.errors import ReadOnlyError, TooLargeError
from imgcache_scrapy.core.limits import (
    HASH_PATTERN,
    MAX_BATCH_USES,
    MAX_POSITION,
    USE_POSITION_PATTERN,
)
from imgcache_scrapy.core.uses import NewUse, page_of
from imgcache_scrapy.engine.async_cache import AsyncImageCache
from imgcache_scrapy.server.answers import PAGE, page_response
from imgcache_scrapy.server.bodies import AnswerMemory
from imgcache_scrapy.server.parameters import (
    FAILURES,
    AnyBucket,
    ContentHash,
    Key,
    Limit,
    Text,
    Time,
    Url,
    image_url,
    with_keys,
)
from imgcache_scrapy.server.problems import TOO_SLOW, documented
from imgcache_scrapy.server.schemas import Use

# The hashes of one request must fit in its first line.
_MAX_HASHES = 50
Hash = Annotated[str, Field(pattern=HASH_PATTERN)]
Position = Annotated[str | None, Query(pattern=USE_POSITION_PATTERN)]


class GivenUse(BaseModel):
    """A use to record; the fields are documented in `Use`."""

    # A wrong name must not be lost.
    model_config = ConfigDict(extra="forbid")

    content_hash: Hash
    url: Url
    key: Key | None = None
    bucket: Text = ""
    page_url: Url | None = None
    item: Text | None = None
    spider: Text | None = None
    job: Text | None = None
    position: Annotated[int, Field(ge=1, le=MAX_POSITION)] | None = None
    alt: Text | None = None
    caption: Text | None = None
    meta: dict[str, Any] | None = None
    used_at: Time | None = None
    first_used_at: Time | None = None

    def new_use(self) -> NewUse:
        """Return it as the engine takes it."""
        return NewUse.of(image_url(self.url, self.key), self.model_dump())


def add_uses(app: FastAPI, images: AsyncImageCache, memory: AnswerMemory) -> None:
    """Add the routes for uses."""
    pages = {200: PAGE, **documented(*FAILURES)}

    @app.get("/images/uses/{content_hash}", response_model=list[Use], responses=pages)
    async def uses_of(
        request: Request,
        content_hash: ContentHash,
        *,
        bucket: AnyBucket = None,
        limit: Limit = None,
        after: Position = None,
    ) -> Response:
        page = await images.uses_page([content_hash], None, bucket, limit, after)
        return await page_response(memory, request, page)

    @app.get("/uses", response_model=list[Use], responses=pages)
    async def uses(
        request: Request,
        *,
        page_url: Annotated[Url | None, Query()] = None,
        content_hash: Annotated[list[Hash] | None, Query(max_length=_MAX_HASHES)] = None,
        bucket: AnyBucket = None,
        limit: Limit = None,
        after: Position = None,
    ) -> Response:
        its_page = None if page_url is None else page_of(page_url)
        page = await images.uses_page(content_hash, its_page, bucket, limit, after)
        return await page_response(memory, request, page)

    @app.post(
        "/uses", responses={**documented(ReadOnlyError, TooLargeError, *FAILURES), **TOO_SLOW}
    )
    async def record(
        uses: Annotated[list[GivenUse], Body(embed=True, max_length=MAX_BATCH_USES)],
    ) -> dict[str, int]:
        new = await with_keys(
            (each.url for each in uses), lambda: [each.new_use() for each in uses]
        )
        return {"recorded": await images.record_uses(new)}
