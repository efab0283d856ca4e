"""Lookups: joins the lookups of a crawl into batches."""

from collections import defaultdict
from typing import NamedTuple

from imgcache_scrapy.core.concurrency import Batcher
from imgcache_scrapy.core.entry import Entry
from imgcache_scrapy.core.failures import Failure
from imgcache_scrapy.core.image_url import ImageUrl
from imgcache_scrapy.plugin.session import Session

_Question = tuple[str | None, ImageUrl]

_MAX_BATCH = 100
# With a single call, pages would queue behind it while it waits for the interpreter lock.
_MAX_CALLS = 2


class Reply(NamedTuple):
    """What the cache knows of a URL.

    Attributes:
        entry: the newest capture.
        failure: the failure of the site that the cache remembers.
        is_blocked: whether the URL or its host is blocked.
    """

    entry: Entry | None = None
    failure: Failure | None = None
    is_blocked: bool = False


class Lookups:
    """Looks up the URLs of a crawl.

    Args:
        session: the session of the crawl.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._batcher = Batcher(self._look_up, max_batch=_MAX_BATCH, max_calls=_MAX_CALLS)

    async def find(self, url: ImageUrl, accept: str | None) -> Reply:
        """Return the newest capture of a URL for a request with this header `Accept`.

        If there is none, return the failure of the site that the cache remembers.

        Raises:
            ImgCacheError: the cache failed.
        """
        return await self._batcher.ask((accept, url)) or Reply()

    async def _look_up(self, questions: list[_Question]) -> dict[_Question, Reply]:
        urls = defaultdict(list)
        for accept, url in questions:
            urls[accept].append(url)
        client = self._session.resilient_client
        tells = self._session.settings.fetch_rules.believes_failures
        replies: dict[_Question, Reply] = {}
        for accept, group in urls.items():
            found = await client.lookup_many(group, accept, tells_failures=tells)
            replies |= {(accept, url): Reply(entry) for url, entry in found.entries.items()}
            replies |= {(accept, url): Reply(None, each) for url, each in found.failures.items()}
            replies |= {(accept, url): Reply(is_blocked=True) for url in found.blocked}
        return replies
