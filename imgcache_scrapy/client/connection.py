"""Connection: sends the requests to a service, and reads the answers within limits."""

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import httpx

from imgcache_scrapy.client.address import without_secrets
from imgcache_scrapy.client.answers import Answer
from imgcache_scrapy.client.fields import without_none
from imgcache_scrapy.client.network import BoundedTransport
from imgcache_scrapy.core.concurrency import Limiter
from imgcache_scrapy.core.errors import InvalidRequestError, ProtocolError, UnavailableError
from imgcache_scrapy.core.forks import FORKED
from imgcache_scrapy.core.limits import MAX_TEXT, MAX_URL_BYTES
from imgcache_scrapy.core.pages import ListPage, all_pages
from imgcache_scrapy.core.response_info import MAX_HEADER_CHARACTERS

T = TypeVar("T")

MAX_ESCAPE = 6
"""Maximum bytes of a character in JSON."""
MAX_ENTRY = 2 * MAX_ESCAPE * MAX_TEXT + MAX_ESCAPE * MAX_HEADER_CHARACTERS + 2**14
"""Maximum bytes of an entry without its URLs, so that no service can fill the memory."""
MAX_ANSWER = MAX_ENTRY + 3 * MAX_ESCAPE * MAX_URL_BYTES
"""Maximum bytes of an answer with one entry."""
MAX_LIST = 2**26
"""Maximum bytes of a page of a list."""
NO_ROUTE = (404, 405)
"""The statuses by which a service may say that it does not have a route."""
_CONNECTIONS = 16
# The service stores images of one moment together, so that uploads wait for each other. Meanwhile
# the next ones are sent.
_UPLOADS = 32
# A larger request is not copied.
_MAX_WHOLE_BYTES = 2**20
# Each part takes as much time and memory as some hundred bytes.
_MAX_SMALL_PARTS = 1000
_MIN_PART_BYTES = 256


class Connection:
    """The connection to a service.

    Args:
        base_url: `http(s)://host:port`, without a slash at the end.
        timeout: seconds for one call from the moment it has a connection; None for no limit.
        token: the service's bearer token.
        transport: an httpx transport to use instead.

    Attributes:
        seconds: the timeout.
    """

    def __init__(
        self,
        base_url: str,
        timeout: float | None,
        token: str | None,
        transport: httpx.AsyncBaseTransport | None,
    ) -> None:
        self._base = base_url
        self.seconds = timeout
        self._limiter = Limiter(_CONNECTIONS, timeout)
        self._upload_limiter = Limiter(_UPLOADS, timeout)
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._given = transport
        # A transport for each connection: one for all looks at all of its connections for each
        # request. The one that was used last is used next.
        self._idle: list[httpx.AsyncBaseTransport] = []
        self._all: list[httpx.AsyncBaseTransport] = [] if transport is None else [transport]
        # Loading the certificates takes 40 ms, so load them only for https.
        is_secure = base_url.lower().startswith("https:")
        self._verify = httpx.create_ssl_context(trust_env=False) if is_secure else False

    async def limited(self, call: Callable[[], Awaitable[T]]) -> T:
        """Run a call, which may make several requests, when a connection is free."""
        return await self._run(self._limiter, call)

    async def limited_upload(self, call: Callable[[], Awaitable[T]]) -> T:
        """Run a call that uploads an image when a connection for uploads is free."""
        return await self._run(self._upload_limiter, call)

    async def _run(self, limiter: Limiter, call: Callable[[], Awaitable[T]]) -> T:
        if self._is_inherited:
            raise UnavailableError(FORKED)
        return await limiter.run(call)

    @property
    def _is_inherited(self) -> bool:
        return self._limiter.is_inherited or self._upload_limiter.is_inherited

    async def send(self, method: str, route: str, **content: Any) -> Answer:
        """Make a request that must succeed; see `call`.

        Raises:
            ImgCacheError: the error for the status of the answer.
        """
        return (await self.answer(method, route, **content)).checked()

    async def answer(self, method: str, route: str, **content: Any) -> Answer:
        """Make a request when a connection is free; see `call`."""
        return await self.limited(lambda: self.call(method, route, **content))

    async def call(
        self, method: str, route: str, *, max_bytes: int = MAX_ANSWER, **content: Any
    ) -> Answer:
        """Make a request at once; call it within `limited`.

        Args:
            method: the HTTP method.
            route: the path.
            max_bytes: the most bytes that the answer may have.
            content: query, body and further headers, as for `httpx.Request`.

        Raises:
            InvalidRequestError: the request cannot be sent.
            UnavailableError: the service cannot be reached.
            ProtocolError: the answer is too large or compressed, or comes in tiny parts.
        """
        try:
            headers = {**self._headers, **content.pop("headers", {})}
            request = httpx.Request(method, self._base + route, headers=headers, **content)
        except (UnicodeError, httpx.InvalidURL) as error:
            raise InvalidRequestError(f"the request cannot be sent: {error}") from error
        return await self._exchange(request, max_bytes)

    async def all_pages(
        self, route: str, query: dict[str, Any], limit: int | None, read: Callable[[Any], T]
    ) -> list[T]:
        """Read the pages of a list one after another.

        Args:
            route: the path.
            query: the query of the first page.
            limit: number of entries after which no further page is read; None to read all.
            read: checks one entry, and raises a `ProtocolError` if it is wrong.

        Raises:
            ProtocolError: an answer is no such page, or says that one follows that was read before.
            ImgCacheError: the error for the status of an answer.
        """
        asked: list[dict[str, Any]] = []

        async def page(missing: int | None, after: dict[str, str] | None) -> ListPage[T]:
            # Only the query of the next page's address is used: the token must go to no other host.
            params = query if after is None else after
            if params in asked:
                raise ProtocolError("the answer says that a page follows that was read before")
            asked.append(params)
            params = params | without_none(limit=missing)
            answer = await self.send("GET", route, max_bytes=MAX_LIST, params=params)
            return answer.page(read)

        return await all_pages(page, limit)

    async def aclose(self) -> None:
        """Refuse further calls, and close the connections."""
        self._limiter.close()
        self._upload_limiter.close()
        if self._is_inherited:
            return  # The parent of this process goes on with its connections.
        for transport in self._all:
            await transport.aclose()

    async def _exchange(self, request: httpx.Request, max_bytes: int) -> Answer:
        if int(request.headers.get("Content-Length", 0)) <= _MAX_WHOLE_BYTES:
            # Otherwise each part of a form is sent by itself.
            request.read()
        transport = self._given or self._free_transport()
        try:
            response = await transport.handle_async_request(request)
            try:
                link = response.headers.get("Link", "")
                return Answer(response.status_code, await _body(response, max_bytes), link)
            finally:
                await response.aclose()
        except httpx.HTTPError as error:
            where, reason = without_secrets(self._base), self._reason(error)
            raise UnavailableError(f"the cache {where} cannot be reached: {reason}") from error
        finally:
            if transport is not self._given:
                self._idle.append(transport)

    def _reason(self, error: httpx.HTTPError) -> str:
        """Return why a request has no answer, and what may help."""
        text = str(error)
        # A service without TLS sends what is no TLS, or closes the connection without a word.
        has_no_tls = not text or ("SSL" in text and "CERTIFICATE" not in text)
        is_hint = self._verify and isinstance(error, httpx.ConnectError) and has_no_tls
        hint = "; if the service has no TLS, use http:// in its address" if is_hint else ""
        return (text or type(error).__name__) + hint

    def _free_transport(self) -> httpx.AsyncBaseTransport:
        if self._idle:
            return self._idle.pop()
        # Only a transport, not a whole httpx client: it follows no redirects, uses no proxies from
        # the environment, and creates no reference cycles that keep bodies in memory.
        self._all.append(BoundedTransport(verify=self._verify, trust_env=False))
        return self._all[-1]


async def _body(response: httpx.Response, max_bytes: int) -> bytes:
    """Read the body of a response, and stop if it is too large.

    Raises:
        ProtocolError: it has more than `max_bytes`, is compressed, or comes in tiny parts.
    """
    # A few compressed bytes can become gigabytes. No request asks for them.
    if response.headers.get("Content-Encoding", "identity") != "identity":
        raise ProtocolError("the answer is compressed: is this the address of a cache?")
    parts, size = [], 0
    async for part in response.aiter_bytes():
        size += len(part)
        if size > max_bytes:
            raise ProtocolError(
                f"the answer has more than {max_bytes:,} bytes: is this the address of a cache?"
            )
        parts.append(part)
        if len(parts) > _MAX_SMALL_PARTS + size // _MIN_PART_BYTES:
            raise ProtocolError("the answer comes in tiny parts: is this the address of a cache?")
    return b"".join(parts)
