"""Derive a blocking client from an async one: it runs the same methods in its own event loop."""

import asyncio
import functools
import os
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Concatenate, ParamSpec, TypeVar

from imgcache_scrapy.core.errors import UnavailableError
from imgcache_scrapy.core.forks import FORKED

P = ParamSpec("P")
T = TypeVar("T")


class BlockingClient:
    """Runs the methods of an async client and waits for the results; usable from any thread.

    A forked process gets a new async client.

    Args:
        open_client: returns an async client that no other code uses.
        reopens: whether `open_client` may be called in a forked process.
    """

    def __init__(self, open_client: Callable[[], Any], *, reopens: bool = True) -> None:
        self._open_client = open_client
        self._reopens = reopens
        self._client = open_client()
        self._loop = _LoopThread()
        self._is_closed = False
        self._inherited: list[object] = []

    def close(self) -> None:
        """Close the client; a second call does nothing."""
        if not self._is_closed:
            self._is_closed = True
            if not self._loop.is_inherited:
                self._loop.end(self._client.aclose)

    def _follow_fork(self) -> None:
        """Open a new async client if this process was forked."""
        if self._loop.is_inherited:
            if not self._reopens:
                raise UnavailableError(FORKED)
            # Kept, because the parent still uses the connections that closing them would end.
            self._inherited += [self._client, self._loop]
            self._client, self._loop = self._open_client(), _LoopThread()

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        if self._is_closed:
            coroutine.close()
            raise UnavailableError("the client is closed")
        return self._loop.run(coroutine)


def blocking(
    method: Callable[Concatenate[Any, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[BlockingClient, P], T]:
    """Derive a blocking method from an async one, with the same arguments and docstring.

    Args:
        method: a method of the async client.
    """

    @functools.wraps(method)
    def call(self: BlockingClient, /, *args: P.args, **kwargs: P.kwargs) -> T:
        self._follow_fork()
        return self._run(method(self._client, *args, **kwargs))

    return call


class _LoopThread:
    """An event loop in its own thread; the thread starts with the first call.

    The thread is a daemon, so that the process can end although a client was not closed.
    """

    def __init__(self) -> None:
        self._start_lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._process = os.getpid()

    @property
    def is_inherited(self) -> bool:
        """Whether this process was forked since the object was made."""
        return self._process != os.getpid()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        with self._start_lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(
                    target=self._loop.run_forever, name="imgcache-client", daemon=True
                )
                self._thread.start()
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def end(self, last: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run a last coroutine and end the thread; do nothing if the thread never started."""
        if self._loop is None or self._thread is None:
            return
        self.run(last())
        self.run(self._loop.shutdown_default_executor())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
