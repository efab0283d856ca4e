"""KeySupport: finds out whether a service knows cache keys."""

import asyncio

from imgcache_scrapy.client.connection import NO_ROUTE, Connection
from imgcache_scrapy.core.errors import REFUSALS, ProtocolError


class KeySupport:
    """Asks a service once whether it knows keys, and what the site said; others refuse both.

    Args:
        connection: the connection to the service.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._asked: asyncio.Task[bool] | None = None

    async def exists(self) -> bool:
        """Return whether the service knows keys.

        Raises:
            ImgCacheError: the service failed; the next call asks again.
        """
        asked = self._asked
        if asked is None or (asked.done() and (asked.cancelled() or asked.exception())):
            asked = self._asked = asyncio.ensure_future(self._ask())
            # Its error is raised by the calls that wait for it, if any still does.
            asked.add_done_callback(lambda task: task.cancelled() or task.exception())
        return await asyncio.shield(asked)

    async def _ask(self) -> bool:
        # Not the health, which may wait for a storage that lookups do not need.
        answer = await self._connection.answer("POST", "/images/lookup", json={"urls": []})
        try:
            return answer.status not in NO_ROUTE and "failures" in answer.checked().object()
        except REFUSALS as error:
            # No image was sent: a store that asks this first is not refused.
            raise ProtocolError(f"the cache refuses an empty lookup: {error}") from error
