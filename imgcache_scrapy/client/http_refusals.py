"""HttpRefusals: the calls for blocked images and failures, which only our services have."""

# ruff: noqa: D102 - the methods are documented once, in AsyncImgCacheClient.

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from imgcache_scrapy.client.connection import NO_ROUTE, Connection
from imgcache_scrapy.client.entries import entry_of
from imgcache_scrapy.client.fields import without_none
from imgcache_scrapy.client.lists import read_blocked, read_failure
from imgcache_scrapy.core.batches import batches_by_size
from imgcache_scrapy.core.blocked import BlockedImage
from imgcache_scrapy.core.entry import Entry
from imgcache_scrapy.core.errors import NotFoundError, ProtocolError
from imgcache_scrapy.core.failures import Failure, SeenFailure
from imgcache_scrapy.core.limits import ACTOR_HEADER, MAX_BATCH_BYTES, MAX_BATCH_URLS

_BLOCKED, _FAILURES = "/blocked", "/failures"
# Of an error; a success has no body.
_MAX_ANSWER = 2**16
# Of the URLs in a request. A character takes one byte in JSON, rarely up to six.
_MAX_CHARACTERS = MAX_BATCH_BYTES // 8


class HttpRefusals(Connection):
    """The methods of `HttpTransport` for blocked images and failures."""

    _supports_failures = True

    async def block(self, content_hash: str, reason: str, actor: str = "") -> BlockedImage:
        body = {"content_hash": content_hash, "reason": reason}
        with explaining_not_found(_BLOCKED):
            return read_blocked(
                (await self.send("POST", _BLOCKED, json=body, headers=acting(actor))).object()
            )

    async def unblock(self, content_hash: str, actor: str = "") -> None:
        route = f"{_BLOCKED}/{content_hash}"
        answer = await self.answer("DELETE", route, headers=acting(actor))
        if answer.lacks_route:
            raise lacks(_BLOCKED)
        answer.checked()

    async def blocked(self, limit: int | None) -> list[BlockedImage]:
        with explaining_not_found(_BLOCKED):
            return await self.all_pages(_BLOCKED, {}, limit, read_blocked)

    async def suggest_blocked(self, bucket: str | None, limit: int | None) -> list[Entry]:
        query = without_none(bucket=bucket)
        with explaining_not_found(_BLOCKED):
            found = await self.all_pages(f"{_BLOCKED}/suggestions", query, limit, entry_of)
        return found[:limit]

    async def remember_failures(self, failures: Sequence[SeenFailure], bucket: str) -> None:
        for batch in batches_by_size(failures, _characters_of, _MAX_CHARACTERS, MAX_BATCH_URLS):
            if not self._supports_failures:
                return
            body = {"failures": list(map(_fields_of, batch)), "bucket": bucket}
            answer = await self.answer("POST", _FAILURES, max_bytes=_MAX_ANSWER, json=body)
            if answer.status in NO_ROUTE:
                self._supports_failures = False
            else:
                answer.checked()

    async def failures(
        self,
        host: str | None,
        since: datetime | None,
        bucket: str | None,
        limit: int | None,
    ) -> list[Failure]:
        query = without_none(host=host, since=since and since.isoformat(), bucket=bucket)
        with explaining_not_found(_FAILURES):
            return await self.all_pages(_FAILURES, query, limit, read_failure)


@contextmanager
def explaining_not_found(route: str) -> Iterator[None]:
    """Raise a `ProtocolError` in a block if the service has no such route."""
    try:
        yield
    except NotFoundError as error:
        raise lacks(route) from error


def lacks(route: str) -> ProtocolError:
    """Return the error for a route that the service does not have."""
    return ProtocolError(
        f"this service has no {route}: it is another implementation or an older version, or its "
        "address is wrong"
    )


def acting(actor: str) -> dict[str, str]:
    """Return the header that says who acts; services without an audit list ignore it."""
    return {ACTOR_HEADER: actor}


def _fields_of(failure: SeenFailure) -> dict[str, Any]:
    url, *rest = failure
    names = ("reason", "http_status", "seconds")
    return {"url": url.url, "key": url.key, **dict(zip(names, rest, strict=True))}


def _characters_of(failure: SeenFailure) -> int:
    return len(failure[0].url) + len(failure[0].key)
