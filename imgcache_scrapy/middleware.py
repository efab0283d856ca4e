"""The downloader middleware: answers image requests from the cache, stores what was fetched."""

import logging
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary, finalize

from scrapy import Request
from scrapy.exceptions import NotConfigured
from scrapy.http import Response
from scrapy.http.request import NO_CALLBACK

from imgcache_scrapy.admission import ACCEPTED_STATUSES
from imgcache_scrapy.crawl import Crawl
from imgcache_scrapy.errors import ConfigurationError, InvalidRequestError
from imgcache_scrapy.formats import IMAGE_SUFFIXES
from imgcache_scrapy.responses import (
    asked_url,
    bypasses_cache,
    cached_response,
    is_from_cache,
    refusal_of,
)
from imgcache_scrapy.urls import cache_key

if TYPE_CHECKING:
    from scrapy.crawler import Crawler

    from imgcache_scrapy.joining import Place

logger = logging.getLogger(__name__)


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
        self._places: WeakKeyDictionary[Request, Place] = WeakKeyDictionary()

    @classmethod
    def from_crawler(cls, crawler: "Crawler") -> Self:
        """Make the middleware of a crawl."""
        return cls(crawler)

    async def process_request(self, request: Request) -> Response | None:
        """Answer from the cache, or let the request pass."""
        key = _key_to_ask(request)
        if key is None:
            return None
        entry = await self._crawl.lookup(key)
        body = None if entry is None else await self._crawl.read(entry)
        if entry is not None and body is not None:
            if not _is_managed(request):
                self._crawl.count(key, "hit", saved=len(body))
            return cached_response(request, entry, body)
        if not _is_managed(request):
            await self._wait_for_room(request)
        return None

    async def process_response(self, request: Request, response: Response) -> Response:
        """Store an image that was fetched, under the URL that was asked for."""
        if _key_to_ask(request) is None or _is_managed(request):
            return response
        try:
            await self._keep(request, response)
        except Exception:
            logger.exception("The image cache could not look at %s", response)
        finally:
            self._leave(request)
        return response

    def process_exception(self, request: Request, exception: Exception) -> None:  # noqa: ARG002
        """Make room: there is no response."""
        self._leave(request)

    async def _keep(self, request: Request, response: Response) -> None:
        key = cache_key(asked_url(request))
        if is_from_cache(response) and key == cache_key(request.url):
            return
        reason = refusal_of(response)
        if response.status not in ACCEPTED_STATUSES or reason not in {None, "truncated"}:
            return
        if reason is not None:
            self._crawl.count(key, "rejected", reason)
            return
        if place := self._places.get(request):
            place.holds(len(response.body))
        entry = await self._crawl.store(key, response)
        self._crawl.count_stored(key, response, entry)
        if entry is not None:
            request.meta["imgcache_entry"] = entry

    async def _wait_for_room(self, request: Request) -> None:
        place = await self._crawl.enter(self._crawl.expected_size)
        self._places[request] = place
        # Another middleware may replace the request or its response: no hook tells us.
        finalize(request, place.leave)

    def _leave(self, request: Request) -> None:
        if place := self._places.pop(request, None):
            place.leave()


def _is_managed(request: Request) -> bool:
    """Tell whether one of our pipelines looks after this request."""
    return "imgcache_managed" in request.meta


def _key_to_ask(request: Request) -> str | None:
    """Give the key to ask the cache for; None where the cache is not to be asked."""
    if bypasses_cache(request) or not (request.meta.get("imgcache") or _is_image(request)):
        return None
    try:
        key = cache_key(request.url)
    except InvalidRequestError:
        return None
    return None if request.meta.get("imgcache_managed") == key else key


def _is_image(request: Request) -> bool:
    # robots.txt is asked for without a callback too, but no status is let through for it.
    lets_status_through = {"handle_httpstatus_all", "handle_httpstatus_list"} & request.meta.keys()
    if request.callback is NO_CALLBACK and lets_status_through:
        return True
    return PurePosixPath(urlsplit(request.url).path).suffix.lower() in IMAGE_SUFFIXES
