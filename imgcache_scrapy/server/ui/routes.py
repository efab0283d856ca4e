"""Add the routes of the page to the app of a service."""

from fastapi import APIRouter, FastAPI, Response

from imgcache_scrapy.engine.async_cache import AsyncImageCache
from imgcache_scrapy.server.ui.access import SignedIn
from imgcache_scrapy.server.ui.assets import add_assets, read_assets
from imgcache_scrapy.server.ui.pages import PageRoute, Pages


def add_page(app: FastAPI, images: AsyncImageCache) -> None:
    """Add the routes at `/` and below `/ui/`."""
    router = APIRouter(route_class=PageRoute, include_in_schema=False)
    assets = read_assets()
    pages = Pages(assets)
    add_assets(router, assets)
    _add_grid(router, pages, images)
    app.include_router(router)


def _add_grid(router: APIRouter, pages: Pages, images: AsyncImageCache) -> None:
    @router.get("/")
    async def grid(visitor: SignedIn) -> Response:
        return await pages.answer("grid", visitor, entries=await images.stats())
