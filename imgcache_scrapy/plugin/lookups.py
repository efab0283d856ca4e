"""Lookups: joins the lookups of a crawl into batches."""

from collections import defaultdict

from imgcache_scrapy.core.concurrency import Batcher
from imgcache_scrapy.core.entry import Entry
from imgcache_scrapy.core.image_url import ImageUrl
from imgcache_scrapy.plugin.session import Session

_Question = tuple[str | None, ImageUrl]

_MAX_BATCH = 100
# With a single call, pages would queue behind it while it waits for the interpreter lock.
_MAX_CALLS = 2


class Lookups:
    """Looks up the URLs of a crawl.

    Args:
        session: the session of the crawl.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._batcher = Batcher(self._look_up, max_batch=_MAX_BATCH, max_calls=_MAX_CALLS)

    async def find(self, url: ImageUrl, accept: str | None) -> Entry | None:
        """Return the newest capture of a URL for a request with this header `Accept`.

        Raises:
            ImgCacheError: the cache failed.
        """
        return await self._batcher.ask((accept, url))

    async def _look_up(self, questions: list[_Question]) -> dict[_Question, Entry]:
        urls = defaultdict(list)
        for accept, url in questions:
            urls[accept].append(url)
        found: dict[_Question, Entry] = {}
        for accept, group in urls.items():
            entries = await self._session.resilient_client.lookup_many(group, accept)
            found |= {(accept, url): entry for url, entry in entries.items()}
        return found
