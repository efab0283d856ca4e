"""Add the routes of the page to the app of a service."""

from fastapi import APIRouter, FastAPI

from imgcache_scrapy.engine.async_cache import AsyncImageCache
from imgcache_scrapy.server.bodies import AnswerMemory
from imgcache_scrapy.server.metrics import Metrics
from imgcache_scrapy.server.ui.access import Access
from imgcache_scrapy.server.ui.acts import add_acts
from imgcache_scrapy.server.ui.assets import add_assets, read_assets
from imgcache_scrapy.server.ui.compare import add_compare
from imgcache_scrapy.server.ui.downloads import add_downloads
from imgcache_scrapy.server.ui.grid import add_grid
from imgcache_scrapy.server.ui.pages import PageRoute, Pages
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
    app.include_router(router)
    return keeper
