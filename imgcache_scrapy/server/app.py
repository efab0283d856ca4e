"""The app of a service process, and the routes that report the state of the cache."""

import gc
import os
import sys
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse, PlainTextResponse
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from imgcache_scrapy.core.errors import UnavailableError
from imgcache_scrapy.engine.async_cache import AsyncImageCache
from imgcache_scrapy.engine.cache import ImageCache
from imgcache_scrapy.engine.location import DEFAULT_FOLDER
from imgcache_scrapy.server import docs
from imgcache_scrapy.server.bodies import AnswerMemory
from imgcache_scrapy.server.claims import add_claims
from imgcache_scrapy.server.guard import BodyLimitMiddleware
from imgcache_scrapy.server.history import add_histories
from imgcache_scrapy.server.images import add_bytes, add_images
from imgcache_scrapy.server.listing import add_lists
from imgcache_scrapy.server.lookups import add_lookups, refuse_methods
from imgcache_scrapy.server.metric_files import share_metrics
from imgcache_scrapy.server.metrics import Metrics, TimingMiddleware
from imgcache_scrapy.server.origins import OriginMiddleware
from imgcache_scrapy.server.orphans import end_with_parent
from imgcache_scrapy.server.parameters import REFUSALS
from imgcache_scrapy.server.problems import answer_with_problems, documented
from imgcache_scrapy.server.refusals import add_refusals
from imgcache_scrapy.server.sessions import Sessions
from imgcache_scrapy.server.takedown import add_takedowns
from imgcache_scrapy.server.thumbnails import add_thumbnails
from imgcache_scrapy.server.tokens import TokenMiddleware
from imgcache_scrapy.server.ui.access import Access
from imgcache_scrapy.server.ui.routes import add_page
from imgcache_scrapy.server.uses import add_uses

# By default it is 5 ms, ten times as long as a lookup takes.
_SWITCH_SECONDS = 0.0005


def create_app(
    cache: ImageCache,
    *,
    token: str | None = None,
    allowed_hosts: Collection[str] = (),
    allows_embedding: bool = True,
    owns_cache: bool = False,
) -> FastAPI:
    """Create the app of a cache.

    Args:
        cache: the cache.
        token: the bearer token that requests need, except for `/health`; None for no token.
        allowed_hosts: host names of the service, beside those that no public site can have.
        allows_embedding: whether pages of any site may show what `/serve/` returns.
        owns_cache: whether to close the cache when the lifespan of the app ends.

    Returns:
        The app.
    """
    images = AsyncImageCache(lambda: cache, lambda each: each.close() if owns_cache else None)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        images.decode_late()
        yield
        await keeper.aclose()
        await images.aclose()

    app = FastAPI(
        title="imgcache",
        summary="A cache of images: find them by URL, by content or by similarity.",
        lifespan=lifespan,
        # These pages of FastAPI load scripts from another host.
        docs_url=None,
        redoc_url=None,
    )
    metrics, memory = Metrics(), AnswerMemory()
    sessions = Sessions(token, cache.catalog.cache_id)
    # The middleware that is added last runs first.
    app.add_middleware(BodyLimitMiddleware)
    if token:
        app.add_middleware(TokenMiddleware, token=token, sessions=sessions)
    app.add_middleware(
        OriginMiddleware,
        allowed_hosts=allowed_hosts,
        checks_host=not token,
        allows_embedding=allows_embedding,
    )
    app.add_middleware(TimingMiddleware, metrics=metrics)
    answer_with_problems(app)
    _add_state(app, images, metrics)
    # Each request is compared with the routes in their order: those of crawls come first.
    add_lookups(app, images, metrics, memory)
    add_lists(app, images, memory)
    refuse_methods(app)
    add_histories(app, images, memory)
    add_bytes(app, images, memory, allows_embedding=allows_embedding)
    add_images(app, images, metrics)
    add_claims(app, images, metrics)
    add_thumbnails(app, images)
    add_uses(app, images, memory)
    add_takedowns(app, images, memory)
    add_refusals(app, images, memory)
    access = Access(sessions, may_act=not cache.catalog.is_read_only)
    keeper = add_page(app, images, metrics, memory, token=token, access=access)
    return app


def app_from_environment() -> FastAPI:
    """Create the app of a service process from the environment.

    `IMGCACHE_FOLDER` is the folder of the cache, by default `./imgcache`. `IMGCACHE_TOKEN` is the
    token, `IMGCACHE_ALLOWED_HOSTS` has host names of the service with commas between them.
    `IMGCACHE_READ_ONLY` and `IMGCACHE_NO_EMBEDDING` stand for the options of these names, and
    `ImageCache.in_folder` reads the other variables.
    """
    end_with_parent()
    share_metrics()
    token = os.environ.get("IMGCACHE_TOKEN")
    folder = Path(os.environ.get("IMGCACHE_FOLDER") or DEFAULT_FOLDER)
    names = filter(None, os.environ.get("IMGCACHE_ALLOWED_HOSTS", "").split(","))
    is_read_only = bool(os.environ.get("IMGCACHE_READ_ONLY"))
    cache = ImageCache.in_folder(folder, upgrade=False, create=not is_read_only)
    if is_read_only:
        cache.catalog.forbid_writing()
    app = create_app(
        cache,
        token=token,
        allowed_hosts=list(names),
        allows_embedding=not os.environ.get("IMGCACHE_NO_EMBEDDING"),
        owns_cache=True,
    )
    # Exclude the loaded modules from garbage collection: scanning them blocks all requests for
    # about 50 ms each time.
    gc.collect()
    gc.freeze()
    # So often the event loop may take the interpreter lock from threads that compute.
    sys.setswitchinterval(_SWITCH_SECONDS)
    return app


def _add_state(app: FastAPI, images: AsyncImageCache, metrics: Metrics) -> None:
    """Add the routes that report the state of the cache."""

    # Programs that watch services often ask with HEAD.
    @app.head("/health", responses=documented(UnavailableError))
    @app.get("/health", responses=documented(UnavailableError))
    async def health() -> dict[str, Any]:
        return await images.health()

    @app.get("/metrics", response_class=PlainTextResponse, responses=documented(*REFUSALS))
    async def prometheus() -> Response:
        return Response(metrics.text(), media_type=CONTENT_TYPE_PLAIN_0_0_4)

    @app.head("/docs", include_in_schema=False)
    @app.get("/docs", include_in_schema=False, response_class=HTMLResponse)
    async def page(request: Request) -> Response:
        return HTMLResponse(docs.docs_page(request.app.openapi()), headers=docs.HEADERS)
