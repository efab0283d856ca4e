"""The roads to a cache, blocking or awaited, over HTTP or in this process, as one."""

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
"""What an entry has, and the types; a bucket is our own."""

ROADS = [
    f"{way}{stack}{colour}"
    for way in ("http", "embedded")
    for stack in ("", "-outgrown")
    for colour in ("", "-async")
]


class Blocking:
    """A client of either colour with one face: every call blocks."""

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
class Road:
    """A way to a cache.

    Attributes:
        name: one of `ROADS`.
        address: of the service, or the folder.
        blobs: those of the cache behind it.
        run: runs a coroutine on the test's loop.
    """

    name: str
    address: str
    blobs: FileBlobs | ObjectBlobs
    run: Callable[..., Any]

    def client(self, **options: Any) -> Blocking:
        """Open a client; the caller closes it."""
        colour = AsyncImgCacheClient if self.name.endswith("async") else ImgCacheClient
        return Blocking(colour(self.address, **{"timeout": PATIENCE, **options}), self.run)


@dataclass
class Cache:
    """A cache behind a road, shared by all tests; where it is, and its blobs."""

    address: str
    blobs: FileBlobs | ObjectBlobs


def object_blobs(environment: dict[str, str]) -> ObjectBlobs:
    """Open the blobs that an environment names."""
    with changed_environment(environment):
        return ObjectBlobs(environment["IMGCACHE_BLOBS_URL"])


@contextmanager
def changed_environment(more: dict[str, str]) -> Iterator[None]:
    """Have more in the environment for a while."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in more.items():
            patch.setenv(name, value)
        yield
