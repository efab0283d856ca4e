"""FetchMethods: the method of a client that fetches an image."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from imgcache_scrapy.client.base import ClientBase
from imgcache_scrapy.client.results import Fetched
from imgcache_scrapy.core.checks import checked_client_name
from imgcache_scrapy.core.forks import no_fork
from imgcache_scrapy.core.freshness import checked_max_age
from imgcache_scrapy.core.lazy import lazy_property
from imgcache_scrapy.core.request_headers import accept_of, request_headers
from imgcache_scrapy.core.urls import downloadable

if TYPE_CHECKING:
    from imgcache_scrapy.client.fetcher import Fetcher


class FetchMethods(ClientBase):
    """The method of `AsyncImgCacheClient` that fetches an image."""

    async def fetch(
        self,
        url: str,
        client_name: str,
        *,
        max_age: float | None = None,
        headers: Mapping[str, str] | None = None,
        key: str | None = None,
        bucket: str | None = None,
    ) -> Fetched:
        """Return an image from the cache, or fetch it from its site and store it, as a crawl does.

        This process fetches it, also if the cache is a service. Redirects are followed, and
        cookies are not kept. The site has the client's `timeout` for its whole answer. Calls for
        the same key at the same time make one request.

        Args:
            url: the image's URL: `http(s)://…`, `//host/…` or `data:…`.
            client_name: name of the client that stores it.
            max_age: maximum age of the capture in seconds; an older image is asked for again, and
                is used if it has not changed, or if the site gives no good one. 0 to ask the site
                in any case, also if it gave no image the last time. None for the limit of the
                client's `fetch_rules`; by default there is none.
            headers: headers of the request to the site.
            key: the cache key of the URL; default `cache_key(url)`.
            bucket: the bucket to look in and to store in; default the client's.

        Returns:
            The image: its bytes in `data`, its `entry`, and a `status`: `cached`, `downloaded`, or
            `duplicate` if it was downloaded but its bytes were known. The entry has `stale` or
            `changed` as in a crawl.

        Raises:
            FetchError: the site gave no image; the error has a `reason` and a `http_status`.
            BlockedError: the image is blocked.
            InvalidRequestError: an argument is not valid.
            ImgCacheError: the cache failed.
        """
        # Imported here, because a client that fetches nothing does not need it.
        with no_fork:
            from imgcache_scrapy.client.site_fetch import Wanted  # noqa: PLC0415

        address = downloadable(url)
        sent = request_headers(headers, self._fetch_rules.headers)
        names_accept = any(name.lower() == "accept" for name in headers or ())
        wanted = Wanted(
            self._image_url(address, key),
            address,
            checked_client_name(client_name),
            self._bucket_or_own(bucket),
            self._max_age(address, max_age),
            sent,
            accept_of(sent) if names_accept else None,
        )
        return await self._fetcher.fetch(wanted)

    @lazy_property
    def _fetcher(self) -> "Fetcher":
        with no_fork:
            from imgcache_scrapy.client.fetcher import Fetcher  # noqa: PLC0415

        _, seconds = self._arguments
        return Fetcher(self.transport, self._key_of, seconds, self._fetch_rules)

    def _max_age(self, address: str, max_age: float | None) -> float | None:
        if max_age is not None:
            return checked_max_age(max_age)
        return self._fetch_rules.freshness.max_age(address, None)

    async def _close_fetcher(self) -> None:
        if "_fetcher" in self.__dict__:
            await self._fetcher.aclose()
