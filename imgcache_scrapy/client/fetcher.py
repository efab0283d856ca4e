"""Fetcher: finds an image in the cache or fetches it; one request at a time for one key."""

import asyncio
from collections.abc import Callable
from typing import NamedTuple

from imgcache_scrapy.client.admission import Admission
from imgcache_scrapy.client.results import Fetched
from imgcache_scrapy.client.site_fetch import SiteFetch, Tools, Wanted, fetch_error, look_up, read
from imgcache_scrapy.client.sites import Sites
from imgcache_scrapy.client.transport import Transport
from imgcache_scrapy.core.admission import is_picture
from imgcache_scrapy.core.entry import Entry
from imgcache_scrapy.core.errors import UnavailableError, blocked
from imgcache_scrapy.core.fetch_rules import FetchRules
from imgcache_scrapy.core.no_image import OFFLINE, by_failure
from imgcache_scrapy.core.urls import is_data_url

# Each of them may have an image in memory.
_MAX_DOWNLOADS = 16


class _Flight(NamedTuple):
    wanted: Wanted
    task: asyncio.Task[Fetched]


class Fetcher:
    """Fetches the images that a program asks for; use it within one event loop, and close it.

    Args:
        cache: the cache.
        key_of: computes the key of a URL.
        seconds: maximum time for the site's answer; None for no limit.
        rules: how images are fetched.
    """

    def __init__(
        self,
        cache: Transport,
        key_of: Callable[[str], str],
        seconds: float | None,
        rules: FetchRules,
    ) -> None:
        size = rules.max_image_bytes
        self._tools = Tools(cache, Sites(seconds, size), Admission(size), key_of, rules)
        self._downloads = asyncio.Semaphore(_MAX_DOWNLOADS)
        self._flights: dict[tuple[str, str], _Flight] = {}
        self._is_closed = False

    async def fetch(self, wanted: Wanted) -> Fetched:
        """Return an image from the cache, or fetch and store it.

        Calls for the same image that come meanwhile wait for the first one. They share its
        result; those that want it in another way, for example with other headers, then go on.

        Args:
            wanted: the image.

        Raises:
            FetchError: the site gave no image.
            ImgCacheError: the image is blocked, or the cache failed.
        """
        key = (wanted.url.key, wanted.bucket)
        while flight := self._flights.get(key):
            if _same_way(flight.wanted, wanted):
                found = await asyncio.shield(flight.task)
                return found._replace(status="cached")
            await asyncio.wait([flight.task])
        if self._is_closed:
            raise UnavailableError("the client is closed")
        # A task of its own: the calls that wait for it must not end with the first one.
        task = asyncio.create_task(self._find_or_fetch(wanted))
        self._flights[key] = _Flight(wanted, task)
        task.add_done_callback(lambda done: self._landed(key, done))
        return await asyncio.shield(task)

    async def aclose(self) -> None:
        """Finish the fetches that have started, then close the connections to sites."""
        self._is_closed = True
        while self._flights:
            await asyncio.wait([flight.task for flight in self._flights.values()])
        await self._tools.sites.aclose()
        await self._tools.admission.aclose()

    def _landed(self, key: tuple[str, str], task: asyncio.Task[Fetched]) -> None:
        del self._flights[key]
        # If no call waits for the task any more, asyncio would log its error.
        _ = task.cancelled() or task.exception()

    async def _find_or_fetch(self, wanted: Wanted) -> Fetched:
        entry, freshness = await self._look_up(wanted), self._tools.rules.freshness
        if entry is not None and not freshness.must_ask(entry, wanted.max_age):
            if entry.get("blocked"):
                raise blocked(entry["content_hash"])
            data = await read(self._tools.cache, entry)
            if data is not None:
                return Fetched(data, entry, "cached")
            entry = None
        if freshness.mode == "offline" and not is_data_url(wanted.address):
            raise fetch_error(OFFLINE)
        # A blocked image is never delivered, but perhaps the site has another one now.
        stale = None if entry is None or entry.get("blocked") else entry
        async with self._downloads:
            return await SiteFetch(self._tools, wanted, stale).run()

    async def _look_up(self, wanted: Wanted) -> Entry | None:
        """Return the newest capture of an image.

        Raises:
            BlockedError: the URL or its host is blocked.
            FetchError: there is none, and the cache remembers a failure of the site.
        """
        url = wanted.url
        found = await look_up(self._tools.cache, url, wanted.bucket, wanted.accept)
        entry = url.newest(found.entries)
        failure = found.failures.get(url.url)
        believes = self._tools.rules.believes_failures and wanted.max_age != 0
        if entry is None and failure is not None and believes:
            raise fetch_error(by_failure(failure))
        return None if entry is None or not is_picture(entry) else entry


def _same_way(one: Wanted, other: Wanted) -> bool:
    """Return whether two calls for one key can share a result."""
    return one._replace(url=other.url, address=other.address) == other
