"""The downloader middleware: answers image requests from the cache, stores what was fetched."""

import asyncio
import logging
from contextlib import ExitStack, suppress
from itertools import count
from typing import TYPE_CHECKING, NamedTuple, Self
from weakref import finalize

from scrapy import Request
from scrapy.exceptions import NotConfigured
from scrapy.http import Response
from scrapy.http.request import NO_CALLBACK

from imgcache_scrapy.core.errors import ConfigurationError, ImgCacheError, InvalidRequestError
from imgcache_scrapy.core.formats import has_image_suffix
from imgcache_scrapy.core.joining import Place
from imgcache_scrapy.core.urls import cache_key
from imgcache_scrapy.plugin.crawl import Crawl
from imgcache_scrapy.plugin.failures import refused
from imgcache_scrapy.plugin.responses import bypasses_cache, cached_response, is_from_cache

if TYPE_CHECKING:
    from scrapy.crawler import Crawler

logger = logging.getLogger(__name__)

_HELD = "imgcache_held"
_ASKED = "imgcache_asked"


class ImgCacheMiddleware:
    """Puts the cache in front of every image request, a stock ImagesPipeline's too.

    A request is an image's when a media pipeline made it or its URL ends like one;
    `request.meta["imgcache"]` True or False decides otherwise, `dont_cache` forbids. A hit has the
    flags `cached` and `imgcache`; after a hit or a store `response.meta["imgcache_entry"]` holds
    the entry. Its place is 585: responses are decompressed and redirects are done there.

    Raises:
        ConfigurationError: a setting is wrong.
        NotConfigured: it is switched off, or cannot work here, which costs no image.
    """

    def __init__(self, crawler: "Crawler") -> None:
        self._crawl = Crawl.of(crawler)
        if not self._crawl.settings.enabled:
            raise NotConfigured("IMGCACHE_ENABLED is False")
        try:
            _ = self._crawl.client
        except ConfigurationError as error:
            raise NotConfigured(str(error)) from error
        self._numbers = count()
        self._held: dict[int, _Held] = {}

    @classmethod
    def from_crawler(cls, crawler: "Crawler") -> Self:
        """Make the middleware of a crawl."""
        return cls(crawler)

    async def process_request(self, request: Request) -> Response | None:
        """Answer from the cache, or let the request pass."""
        key = _key_to_ask(request)
        if key is None:
            return None
        request.meta.pop("imgcache_entry", None)
        request.meta[_ASKED] = [_asked_first(request, key), request.url]
        if _is_managed(request) or request.meta.get(_HELD) in self._held:
            # A redirect or a retry carries what the request holds that it came from, and must
            # not wait for more: the first one's may only be left when all is done.
            return await self._answered(key, request)
        with ExitStack() as holding:
            await self._crawl.enter_alone(key, holding)
            response = await self._answered(key, request)
            if response is None:
                place = holding.enter_context(await self._crawl.enter())
                self._hold(request, _Held(place, holding.pop_all()))
        return response

    async def process_response(self, request: Request, response: Response) -> Response:
        """Store an image that was fetched, under the URL that was asked for."""
        if _key_to_ask(request) is None or _is_managed(request):
            return response
        try:
            await self._keep(request, response)
        except ImgCacheError:  # in strict mode
            self._count_trouble(request, cache_key(request.url))
            raise
        except Exception:
            logger.exception("The image cache could not look at %s", response)
        finally:
            self._leave(request)
        return response

    def process_exception(self, request: Request, exception: Exception) -> None:  # noqa: ARG002
        """Make room: there is no response."""
        self._leave(request)

    async def _answered(self, key: str, request: Request) -> Response | None:
        try:
            return await self._answer(key, request)
        except ImgCacheError:  # in strict mode
            self._count_trouble(request, key)
            raise
        except Exception:
            logger.exception("The image cache could not answer %s", request)
            return None

    async def _answer(self, key: str, request: Request) -> Response | None:
        entry = await self._crawl.lookup(key)
        body = None if entry is None else await self._crawl.read(entry)
        if entry is None or body is None:
            return None
        response = cached_response(request, entry, body)
        if not _is_managed(request) and _asked_first(request, key) == key:
            self._crawl.fates.count(key, "hit", saved=len(body))
        return response

    async def _keep(self, request: Request, response: Response) -> None:
        own_key = cache_key(request.url)
        key = _asked_first(request, own_key)
        if is_from_cache(response) and key == own_key:
            return
        refusal = refused(response)
        if refusal is not None:
            # Anything else is no image, and counts nothing.
            if refusal.reason == "truncated":
                self._crawl.fates.count(key, refusal.fate, refusal.reason)
            return
        if held := self._held.get(request.meta.get(_HELD, -1)):
            held.place.holds(len(response.body))
        entry = await self._crawl.store(key, response)
        self._crawl.fates.count_stored(key, response, entry)
        if entry is not None:
            request.meta["imgcache_entry"] = entry

    def _count_trouble(self, request: Request, key: str) -> None:
        if not _is_managed(request):
            self._crawl.fates.count(_asked_first(request, key), "failed", "cache")

    def _hold(self, request: Request, held: "_Held") -> None:
        number = next(self._numbers)
        self._held[number] = held
        request.meta[_HELD] = number
        # A request may be dropped without a word to any hook.
        loop = asyncio.get_running_loop()
        finalize(request, _in_loop, loop, self._held, number).atexit = False

    def _leave(self, request: Request) -> None:
        _leave(self._held, request.meta.get(_HELD, -1))


class _Held(NamedTuple):
    """What a request holds until its image is stored: its place, and with it the key's lock."""

    place: Place
    holding: ExitStack


def _leave(all_held: dict[int, _Held], number: int) -> None:
    if held := all_held.pop(number, None):
        held.holding.close()


def _in_loop(loop: asyncio.AbstractEventLoop, held: dict[int, _Held], number: int) -> None:
    # The garbage may be collected in any thread, and after the loop has closed.
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(_leave, held, number)


def _is_managed(request: Request) -> bool:
    """Tell whether one of our pipelines looks after this request."""
    return "imgcache_managed" in request.meta


def _key_to_ask(request: Request) -> str | None:
    """Give the key to ask the cache for; None where the cache is not to be asked."""
    if bypasses_cache(request) or request.url.startswith("data:") or not _is_image(request):
        return None
    try:
        key = cache_key(request.url)
    except InvalidRequestError:
        return None
    return None if request.meta.get("imgcache_managed") == key else key


def _asked_first(request: Request, key: str) -> str:
    """Give the key that was asked for first, in the chain of redirects that led to a request."""
    asked, last_url = request.meta.get(_ASKED, (key, request.url))
    # Meta that a spider copied from another response is no chain.
    came_from = [request.url, *request.meta.get("redirect_urls", [])[-1:]]
    return asked if last_url in came_from else key


def _is_image(request: Request) -> bool:
    if request.meta.get("imgcache"):
        return True
    # robots.txt is asked for without a callback too, but no status is let through for it.
    lets_status_through = {"handle_httpstatus_all", "handle_httpstatus_list"} & request.meta.keys()
    is_media = request.callback is NO_CALLBACK and bool(lets_status_through)
    return is_media or has_image_suffix(request.url)
