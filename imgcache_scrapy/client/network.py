"""BoundedTransport: an HTTP transport that reads no endless head of an answer."""

# The modules that are not used here would be imported by the first request, in a thread, and a fork
# can interrupt that.
import concurrent.futures.thread  # noqa: F401
import math
from typing import Any

import anyio._backends._asyncio  # noqa: F401
import httpcore  # noqa: F401
import httpx

from imgcache_scrapy.core.errors import ProtocolError

# Of the head, with a part of the body. httpx itself bounds a single head, but not the number of
# those before the last one, such as `100 Continue`. To parse them blocks the event loop.
_MAX_HEAD_BYTES = 2**18


class BoundedTransport(httpx.AsyncHTTPTransport):
    """The transport of httpx with one bound more, for one request at a time.

    Args:
        options: as for the base class.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        # httpx has no option for this.
        self._network = _Network(self._pool._network_backend)  # noqa: SLF001
        self._pool._network_backend = self._network  # type: ignore[assignment]  # noqa: SLF001

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request, and receive the head of its answer.

        Raises:
            ProtocolError: the head is too large.
        """
        self._network.bytes_left = _MAX_HEAD_BYTES
        response = await super().handle_async_request(request)
        self._network.bytes_left = math.inf
        return response


class _Network:
    """A network of httpcore with streams that read a limited number of bytes.

    Attributes:
        bytes_left: how many bytes may still be read.
    """

    def __init__(self, network: Any) -> None:
        self._network = network
        self.bytes_left = math.inf

    def __getattr__(self, name: str) -> Any:
        return getattr(self._network, name)

    async def connect_tcp(self, *args: Any, **options: Any) -> "_Stream":
        return _Stream(await self._network.connect_tcp(*args, **options), self)


class _Stream:
    def __init__(self, stream: Any, network: _Network) -> None:
        self._stream = stream
        self._network = network

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    async def read(self, *args: Any, **options: Any) -> bytes:
        data: bytes = await self._stream.read(*args, **options)
        self._network.bytes_left -= len(data)
        if self._network.bytes_left < 0:
            raise ProtocolError("the head of the answer is endless: is this a cache?")
        return data

    async def start_tls(self, *args: Any, **options: Any) -> "_Stream":
        return _Stream(await self._stream.start_tls(*args, **options), self._network)
