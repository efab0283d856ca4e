"""The grid of pictures at `/`."""

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from imgcache_scrapy.core.entry import UNKNOWN_TYPE
from imgcache_scrapy.core.formats import EXTENSIONS
from imgcache_scrapy.engine.async_cache import AsyncImageCache
from imgcache_scrapy.server.ui.access import SignedIn
from imgcache_scrapy.server.ui.grid_query import (
    NO_BUCKET,
    TILES,
    GridQuery,
    chips,
    given_parameters,
)
from imgcache_scrapy.server.ui.pages import HEADERS, Pages
from imgcache_scrapy.server.ui.results import result_of
from imgcache_scrapy.server.ui.state_keeper import StateKeeper
from imgcache_scrapy.server.ui.texts import address
from imgcache_scrapy.server.ui.tiles import tile_of

_MAX_SUGGESTIONS = 200


def add_grid(router: APIRouter, pages: Pages, images: AsyncImageCache, keeper: StateKeeper) -> None:
    """Add the route of the grid."""

    @router.get("/")
    async def grid(request: Request, visitor: SignedIn) -> Response:
        parameters = given_parameters(request.query_params)
        if len(parameters) < len(request.query_params.multi_items()):
            # So that the address in the bar says what is shown, and no more.
            return RedirectResponse(address("/", parameters), 303, headers=HEADERS)
        query = GridQuery.of(parameters)
        page = await images.gallery_page(
            query.filters(),
            TILES[query.size],
            query.after,
            not_decoded=query.state == "not_decoded",
        )
        shown = {name: value for name, value in parameters.items() if name != "done"}
        return await pages.answer(
            "grid",
            visitor,
            tiles=[tile_of(entry) for entry in page.entries],
            query=query,
            parameters=shown,
            chips=chips(shown),
            next_page=page.after and address("/", shown, after=page.after),
            newest=address("/", shown, after=None),
            here=address("/", shown),
            sizes={size: address("/", shown, size=size) for size in TILES},
            result=result_of(parameters.get("done")),
            types=[*EXTENSIONS, UNKNOWN_TYPE],
            suggestions=_suggestions(keeper),
        )


def _suggestions(keeper: StateKeeper) -> Mapping[str, list[str]]:
    """Return the values that some filters may have, if they are known."""
    state: Any = keeper.last
    if state is None:
        return {"host": [], "bucket": [], "client_name": []}
    return {
        "host": list(state.hosts)[:_MAX_SUGGESTIONS],
        "bucket": [name or NO_BUCKET for name in list(state.buckets)[:_MAX_SUGGESTIONS]],
        "client_name": list(state.clients)[:_MAX_SUGGESTIONS],
    }
