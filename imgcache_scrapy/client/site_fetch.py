"""SiteFetch: gets one image from its site, which may say that the stale one is still good."""

from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import NamedTuple

from imgcache_scrapy.client.admission import Admission
from imgcache_scrapy.client.renewal import claim_again
from imgcache_scrapy.client.results import Fetched, FetchStatus
from imgcache_scrapy.client.sites import SiteAnswer, Sites
from imgcache_scrapy.client.transport import Transport
from imgcache_scrapy.core.entry import Entry, content_hash_of
from imgcache_scrapy.core.errors import (
    BlockedError,
    FetchError,
    ImgCacheError,
    NotFoundError,
    ReadOnlyError,
    blocked_source,
)
from imgcache_scrapy.core.failures import Found, SeenFailure, seconds_to_remember
from imgcache_scrapy.core.fetch_rules import FetchRules
from imgcache_scrapy.core.image_url import ImageUrl
from imgcache_scrapy.core.no_image import NoImage, by_refusal, by_status
from imgcache_scrapy.core.request_headers import RequestHeaders, accept_of
from imgcache_scrapy.core.response_info import ResponseInfo
from imgcache_scrapy.core.revalidation import (
    NOT_MODIFIED,
    as_changed,
    as_stale,
    confirms,
    is_conditional,
    renewed_headers,
    validators,
)


class Wanted(NamedTuple):
    """One image that a program asks for.

    Attributes:
        url: its URL, with the key.
        address: the URL to request; it may have a user and a password.
        client_name: the name of the client.
        bucket: the bucket to look in and to store in.
        max_age: maximum age of a capture in seconds; None for no limit.
        headers: the headers of the request.
        accept: the header `Accept` that the program named; None if any format will do.
    """

    url: ImageUrl
    address: str
    client_name: str
    bucket: str
    max_age: float | None
    headers: RequestHeaders
    accept: str | None


class Tools(NamedTuple):
    """What the fetches of one client share.

    Attributes:
        cache: the cache.
        sites: makes the requests to sites.
        admission: decides which bodies are images.
        key_of: computes the key of a URL.
        rules: how images are fetched.
    """

    cache: Transport
    sites: Sites
    admission: Admission
    key_of: Callable[[str], str]
    rules: FetchRules


class SiteFetch:
    """Gets one image that is not in the cache, or is too old there.

    Args:
        tools: what the fetches of the client share.
        wanted: the image.
        stale: the entry of the image that is too old; None if there is none.
    """

    def __init__(self, tools: Tools, wanted: Wanted, stale: Entry | None) -> None:
        self._tools = tools
        self._wanted = wanted
        self._stale = stale
        self._is_lost = False

    async def run(self) -> Fetched:
        """Ask the site, and once more without validators if that was of no use.

        Raises:
            FetchError: the site gave no image, and there is no stale one.
            BlockedError: the image is blocked, and there is no stale one.
            ImgCacheError: the cache failed.
        """
        headers = self._wanted.headers
        added = {}
        if self._stale is not None and not is_conditional(name for name, _ in headers):
            added = validators(self._stale)
        if added:
            conditions = tuple((name.encode(), value) for name, value in added.items())
            fetched = await self._attempt(headers + conditions, is_conditional=True)
            if fetched is not None:
                return fetched
        fetched = await self._attempt(headers, is_conditional=False)
        assert fetched is not None  # noqa: S101 - only a conditional request is repeated
        return fetched

    async def _attempt(self, headers: RequestHeaders, *, is_conditional: bool) -> Fetched | None:
        answer = None
        try:
            answer = await self._tools.sites.get(
                self._wanted.address, headers, self._check_redirect
            )
            if answer.status == NOT_MODIFIED and is_conditional:
                return await self._not_modified(answer)
            return await self._keep(answer)
        except FetchError as error:
            await self._remember(error, answer)
            is_gone = self._tools.rules.freshness.fails(error.http_status)
            stale = None if is_gone else await self._read_stale()
            if stale is None:
                raise
            return stale
        except BlockedError:
            stale = await self._read_stale()
            if stale is None:
                raise
            return stale

    async def _check_redirect(self, address: str) -> None:
        """Raise BlockedError if a URL to which the site redirects, or its host, is blocked."""
        await look_up(self._tools.cache, ImageUrl.of(address), self._wanted.bucket, None)

    async def _not_modified(self, answer: SiteAnswer) -> Fetched | None:
        """Renew the stale capture; return None if the site must be asked again."""
        url, entry = self._wanted.url, self._stale
        answered_by = answer.final_url or url.url
        if entry is None or not confirms(entry, url, answered_by, self._tools.key_of):
            return None
        renewed = await self._renew(entry, answer)
        data = None if renewed is None else await read(self._tools.cache, renewed)
        if renewed is None or data is None:
            self._is_lost = True
            return None
        return Fetched(data, renewed, "cached")

    async def _renew(self, entry: Entry, answer: SiteAnswer) -> Entry | None:
        wanted = self._wanted
        said = self._info(answer)
        headers = renewed_headers(entry, said.headers)
        info = ResponseInfo.of(wanted.url.url, headers, said.final_url, accept_of(wanted.headers))
        try:
            renewed = await claim_again(
                self._tools.cache,
                wanted.url,
                entry,
                client_name=wanted.client_name,
                bucket=wanted.bucket,
                response=info,
            )
        except BlockedError:
            return None
        except ReadOnlyError:  # The image is good all the same.
            return entry
        return renewed if renewed is not None or self._tools.cache.supports_claims else entry

    async def _keep(self, answer: SiteAnswer) -> Fetched:
        """Store what came if it is an image."""
        wanted, admission = self._wanted, self._tools.admission
        cause = by_status(answer.status)
        if cause is None:
            reason = await admission.refusal(answer.body)
            if reason is not None:
                cause = by_refusal(reason, answer.status, admission.max_bytes)
        if cause is not None:
            raise fetch_error(cause)
        try:
            entry = await self._tools.cache.store(
                wanted.url.url,
                answer.body,
                wanted.client_name,
                key=wanted.url.key,
                bucket=wanted.bucket,
                lookup_time=datetime.now(UTC),
                filename=None,
                response=self._info(answer),
            )
        except ReadOnlyError:
            stale = self._stale
            if stale is None or content_hash_of(answer.body) != stale["content_hash"]:
                raise
            entry = stale  # The image is good all the same.
        return _compared(self._stale, entry, answer.body)

    async def _read_stale(self) -> Fetched | None:
        """Return the stale image, because the site gave no good one; None if there is none."""
        if self._stale is None or self._is_lost:
            return None
        data = await read(self._tools.cache, self._stale)
        return None if data is None else Fetched(data, as_stale(self._stale), "cached")

    async def _remember(self, error: FetchError, answer: SiteAnswer | None) -> None:
        """Remember that the site gave no image, as a crawl with these rules does."""
        rules = self._tools.rules.remember_failures
        if rules is None:
            return
        values = [] if answer is None else answer.headers.get("retry-after", [])
        retry_after = values[0] if values else None
        now = datetime.now(UTC)
        seconds = seconds_to_remember(error.reason, retry_after, rules, now)
        if seconds is not None:
            seen = SeenFailure(self._wanted.url, error.reason, error.http_status, seconds)
            with suppress(ImgCacheError):  # Why the site gave no image matters more.
                await self._tools.cache.remember_failures([seen], self._wanted.bucket)

    def _info(self, answer: SiteAnswer) -> ResponseInfo:
        accept = accept_of(self._wanted.headers)
        return ResponseInfo.of(self._wanted.url.url, answer.headers, answer.final_url, accept)


def fetch_error(cause: NoImage) -> FetchError:
    """Return the error for the reason why there is no image."""
    return FetchError(cause.message, cause.reason, cause.http_status)


async def look_up(cache: Transport, url: ImageUrl, bucket: str, accept: str | None) -> Found:
    """Look up an image; see `Transport.lookup_many`.

    Raises:
        BlockedError: the URL or its host is blocked.
    """
    found = await cache.lookup_many(list(url.keys), bucket, accept, [url.url])
    if not found.blocked.isdisjoint((url.url, *url.keys)):
        raise blocked_source("URL or the host of", url.url)
    return found


async def read(cache: Transport, entry: Entry) -> bytes | None:
    """Read the bytes of an image; None if they are missing or damaged.

    Args:
        cache: the cache.
        entry: the entry of the image.
    """
    with suppress(NotFoundError):
        return await cache.get_bytes(
            entry["content_hash"], entry.get("bucket", ""), entry["file_size_bytes"]
        )
    return None


def _compared(stale: Entry | None, entry: Entry, data: bytes) -> Fetched:
    """Compare a stored image with the one that its URL had before."""
    if stale is not None and entry["content_hash"] == stale["content_hash"]:
        return Fetched(data, entry, "cached")
    status: FetchStatus = "downloaded" if entry["created"] else "duplicate"
    return Fetched(data, entry if stale is None else as_changed(entry, stale), status)
