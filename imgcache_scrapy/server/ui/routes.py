"""Add the routes of the page to the app of a service."""

from http import HTTPStatus

from fastapi import APIRouter, FastAPI, Response
from fastapi.responses import RedirectResponse

from imgcache_scrapy.core.errors import NotFoundError
from imgcache_scrapy.engine.async_cache import AsyncImageCache
from imgcache_scrapy.server.bodies import AnswerMemory
from imgcache_scrapy.server.metrics import Metrics
from imgcache_scrapy.server.ui.access import Access
from imgcache_scrapy.server.ui.acts import add_acts
from imgcache_scrapy.server.ui.assets import add_assets, read_assets
from imgcache_scrapy.server.ui.compare import add_compare
from imgcache_scrapy.server.ui.downloads import add_downloads
from imgcache_scrapy.server.ui.grid import add_grid
from imgcache_scrapy.server.ui.pages import HEADERS, PageRoute, Pages
from imgcache_scrapy.server.ui.picture import add_picture
from imgcache_scrapy.server.ui.signing_in import add_signing_in
from imgcache_scrapy.server.ui.state import add_state
from imgcache_scrapy.server.ui.state_keeper import StateKeeper


def add_page(
    app: FastAPI,
    images: AsyncImageCache,
    metrics: Metrics,
    memory: AnswerMemory,
    *,
    token: str | None,
    access: Access,
) -> StateKeeper:
    """Add the routes at `/` and below `/ui/`.

    Args:
        app: gets the routes.
        images: the cache.
        metrics: counts, for the state page.
        memory: limits the memory of answers.
        token: the token of the service; None if it has none.
        access: decides who may look and act.

    Returns:
        What keeps the sums of the state page, to be closed before the cache.
    """
    router = APIRouter(route_class=PageRoute, include_in_schema=False)
    assets = read_assets()
    pages = Pages(assets)
    keeper = StateKeeper(images)
    app.state.access = access
    add_assets(router, assets)
    add_signing_in(router, pages, token)
    add_grid(router, pages, images, keeper)
    add_picture(router, pages, images)
    add_compare(router, pages, images)
    add_acts(router, pages, images)
    add_downloads(router, images, memory)
    add_state(router, pages, keeper, metrics)
    _add_other_paths(router)
    app.include_router(router)
    return keeper


def _add_other_paths(router: APIRouter) -> None:
    """Add what answers a person at a path that is no page; it must come after all pages."""

    @router.get("/ui")
    async def start() -> Response:
        return RedirectResponse("/", HTTPStatus.SEE_OTHER, headers=HEADERS)

    @router.get("/ui/{rest:path}")
    async def no_page(rest: str) -> Response:
        if not rest:
            return await start()
        raise NotFoundError("there is no such page: begin with the list of all pictures")
