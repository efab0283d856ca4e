"""LocalUses: tells the cache which images are used by their local files, without a lookup."""

from collections import defaultdict
from typing import NamedTuple

from imgcache_scrapy.client.recorder import Recorder
from imgcache_scrapy.client.resilience import ResilientClient
from imgcache_scrapy.core.image_url import ImageUrl


class LocalUse(NamedTuple):
    """The use of a local file.

    Attributes:
        url: the URL of its image.
        accept: the header `Accept` of the request for it; empty for none.
    """

    url: ImageUrl
    accept: str


class LocalUses(Recorder[LocalUse]):
    """Tells the cache in the background, so that it does not remove these images first.

    Args:
        client: the client of the crawl.
    """

    def __init__(self, client: ResilientClient) -> None:
        super().__init__(self._look_up, lambda use: (use.url.key, use.accept))
        self._client = client

    async def _look_up(self, uses: list[LocalUse]) -> None:
        """Look up the images: the cache records the use of what it finds."""
        urls = defaultdict(list)
        for use in uses:
            urls[use.accept].append(use.url)
        for accept, group in urls.items():
            await self._client.lookup_many(group, accept)
