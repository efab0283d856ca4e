"""Sites: sends requests to the sites of images, and reads their answers within limits."""

import asyncio
import socket
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import NamedTuple

import httpx

from imgcache_scrapy.core.admission import ACCEPTED_STATUSES, MESSAGES
from imgcache_scrapy.core.bounded_body import BoundedBody
from imgcache_scrapy.core.deadline import timeout
from imgcache_scrapy.core.errors import (
    FetchError,
    InvalidRequestError,
    ProtocolError,
    TooLargeError,
)
from imgcache_scrapy.core.keys import without_user
from imgcache_scrapy.core.no_image import TOO_LARGE, by_refusal
from imgcache_scrapy.core.request_headers import RequestHeaders
from imgcache_scrapy.core.text import printable
from imgcache_scrapy.core.urls import data_body, is_data_url, request_url

MAX_REDIRECTS = 20
"""Maximum number of redirects for one image, as in Scrapy."""


class SiteAnswer(NamedTuple):
    """What a site answered, after redirects.

    Attributes:
        status: the HTTP status.
        body: the decompressed content; empty if the status says that there is no image.
        headers: the headers by their names in lower case, each with its values.
        final_url: the URL that answered, without user and password; None without a redirect.
    """

    status: int
    body: bytes
    headers: Mapping[str, list[str]] = {}
    final_url: str | None = None


class Sites:
    """Makes requests to sites. Cookies are not kept.

    Args:
        seconds: maximum time for one image, with all its redirects; None for no limit.
        max_bytes: the size of the largest image.
    """

    def __init__(self, seconds: float | None, max_bytes: int) -> None:
        self._seconds = seconds
        self._max_bytes = max_bytes
        self._client: httpx.AsyncClient | None = None
        self._opening = asyncio.Lock()

    async def get(
        self, url: str, headers: RequestHeaders, check: Callable[[str], Awaitable[None]]
    ) -> SiteAnswer:
        """Ask for an image.

        Args:
            url: the URL; the bytes of a `data:` URL are decoded without a request.
            headers: the headers of the request.
            check: called with each URL to which the site redirects, before it is asked; its
                errors end the request.

        Raises:
            FetchError: the site gave no answer, or one that is too large or cut off.
            InvalidRequestError: the request cannot be sent.
        """
        if is_data_url(url):
            return SiteAnswer(200, data_body(url))
        try:
            async with timeout(self._seconds):
                return await self._exchange(url, headers, check)
        except TimeoutError as error:
            message = f"the site did not answer within {self._seconds:g} s"
            raise FetchError(message, "timeout") from error
        except (httpx.InvalidURL, httpx.LocalProtocolError, UnicodeError) as error:
            raise InvalidRequestError(f"the request cannot be sent: {printable(error)}") from error
        except httpx.HTTPError as error:
            raise _fetch_error(error) from error

    async def aclose(self) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.aclose()

    async def _exchange(
        self, url: str, headers: RequestHeaders, check: Callable[[str], Awaitable[None]]
    ) -> SiteAnswer:
        client = await self._opened()
        request = client.build_request("GET", url, headers=headers)
        for count in range(MAX_REDIRECTS + 1):
            # Redirects are followed here, so that no body of a redirect is read.
            response = await client.send(request, stream=True, follow_redirects=False)
            try:
                following = response.next_request
                if following is None or following.url.scheme not in {"http", "https"}:
                    return await self._answer(response, is_redirected=count > 0)
            finally:
                await response.aclose()
            await check(str(following.url))
            request = following
        raise FetchError(f"the site redirects more than {MAX_REDIRECTS} times", "filtered")

    async def _opened(self) -> httpx.AsyncClient:
        async with self._opening:
            if self._client is None:
                # In a thread, because reading the certificates takes 40 ms.
                self._client = await asyncio.to_thread(_new_client)
        return self._client

    async def _answer(self, response: httpx.Response, *, is_redirected: bool) -> SiteAnswer:
        has_image = response.status_code in ACCEPTED_STATUSES
        body = await self._body(response) if has_image else b""
        headers = defaultdict(list)
        for name, value in response.headers.raw:
            headers[name.decode("latin-1").lower()].append(value.decode("latin-1"))
        final_url = without_user(request_url(str(response.url))) if is_redirected else None
        return SiteAnswer(response.status_code, body, headers, final_url)

    async def _body(self, response: httpx.Response) -> bytes:
        status = response.status_code
        try:
            body = BoundedBody(response.headers.get("Content-Encoding", ""), self._max_bytes)
            async for part in response.aiter_raw():
                body.add(part)
        except TooLargeError as error:
            raise _too_large(status, self._max_bytes) from error
        except ProtocolError as error:
            raise FetchError(str(error), "download", status) from error
        except httpx.RemoteProtocolError as error:
            raise FetchError(MESSAGES["truncated"], "truncated", status) from error
        if not body.is_whole:
            raise FetchError(MESSAGES["truncated"], "truncated", status)
        return body.joined()


def _new_client() -> httpx.AsyncClient:
    # A jar that neither takes nor returns a cookie.
    jar = CookieJar(DefaultCookiePolicy(allowed_domains=[]))
    return httpx.AsyncClient(timeout=None, cookies=jar)  # noqa: S113 - `Sites` has a deadline


def _too_large(status: int, max_bytes: int) -> FetchError:
    cause = by_refusal(TOO_LARGE, status, max_bytes)
    return FetchError(cause.message, cause.reason, cause.http_status)


def _fetch_error(error: httpx.HTTPError) -> FetchError:
    """Return the error for a request that got no answer, with the reason that a crawl has."""
    causes = list(_causes(error))
    if any(isinstance(each, socket.gaierror) for each in causes):
        return FetchError("the host of the URL has no address", "dns")
    if any(isinstance(each, ConnectionRefusedError) for each in causes):
        return FetchError("the site refuses the connection", "connection")
    reason = " ".join(printable(error).split()) or type(error).__name__
    return FetchError(f"the site gave no answer: {reason}", "download")


def _causes(error: BaseException | None) -> "list[BaseException]":
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        if isinstance(error, BaseExceptionGroup):
            found += error.exceptions
        error = error.__cause__ or error.__context__
    return found
