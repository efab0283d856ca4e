"""Clients for tests of all kinds: blocking or awaited, over HTTP or embedded, on any storage."""

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

import pytest

from imgcache_scrapy import AsyncImgCacheClient, ImgCacheClient
from imgcache_scrapy.engine.blobs.files import FileBlobs
from imgcache_scrapy.engine.blobs.objects import ObjectBlobs
from tests.support.waiting import PATIENCE

ENTRY_TYPES: dict[str, type] = {
    "url": str,
    "key": str,
    "content_hash": str,
    "content_type": str,
    "file_size_bytes": int,
    "original_filename": str,
    "width": int,
    "height": int,
    "perceptual_hash": str,
    "client_name": str,
    "lookup_time": str,
    "created_at": str,
    "bucket": str,
}
"""The keys of an entry and their types; `bucket` is our addition to the reference."""

CLIENT_SETUPS = [
    f"{transport}{storage}{mode}"
    for transport in ("http", "embedded")
    for storage in ("", "-postgresql")
    for mode in ("", "-async")
]


class BlockingClient:
    """A blocking or awaited client with one interface: every call blocks."""

    def __init__(
        self, client: ImgCacheClient | AsyncImgCacheClient, run: Callable[..., Any]
    ) -> None:
        self._client = client
        self._run = run

    def __getattr__(self, name: str) -> Any:
        awaited = isinstance(self._client, AsyncImgCacheClient)
        method = getattr(self._client, "aclose" if awaited and name == "close" else name)

        def call(*args: Any, **options: Any) -> Any:
            answer = method(*args, **options)
            return self._run(answer) if inspect.iscoroutine(answer) else answer

        return call

    def __enter__(self) -> Self:
        if isinstance(self._client, ImgCacheClient):
            entered: Any = self._client.__enter__()
        else:
            entered = self._run(self._client.__aenter__())
        assert entered is self._client
        return self

    def __exit__(self, *error: object) -> None:
        if isinstance(self._client, ImgCacheClient):
            self._client.__exit__(*error)
        else:
            self._run(self._client.__aexit__(*error))


@dataclass
class ClientSetup:
    """One way to use a cache: its transport, its storage, and a blocking or awaited client.

    Attributes:
        name: one of `CLIENT_SETUPS`.
        address: URL of the service, or the folder.
        blobs: the blobs of the cache.
        run: runs a coroutine on the test's event loop.
    """

    name: str
    address: str
    blobs: FileBlobs | ObjectBlobs
    run: Callable[..., Any]

    def open_client(self, **options: Any) -> BlockingClient:
        """Open a client; the caller closes it."""
        kind = AsyncImgCacheClient if self.name.endswith("async") else ImgCacheClient
        return BlockingClient(kind(self.address, **{"timeout": PATIENCE, **options}), self.run)


@dataclass
class Cache:
    """The address and the blobs of a cache that all tests share."""

    address: str
    blobs: FileBlobs | ObjectBlobs


def object_blobs(environment: dict[str, str]) -> ObjectBlobs:
    """Open the blobs at the URL in an environment."""
    with changed_environment(environment):
        return ObjectBlobs(environment["IMGCACHE_BLOBS_URL"])


@contextmanager
def changed_environment(more: dict[str, str]) -> Iterator[None]:
    """Add variables to the environment while the context is open."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in more.items():
            patch.setenv(name, value)
        yield
