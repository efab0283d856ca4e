"""The roads to a cache, blocking or awaited, over HTTP or in this process, as one.

Each leads to a cache on SQLite and files, and to one on PostgreSQL and an object store.
"""

import asyncio
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Self
from uuid import uuid4

import pytest
from PIL import Image

from imgcache_scrapy import AsyncImgCacheClient, ImgCacheClient
from imgcache_scrapy.engine.blobs.files import FileBlobs
from imgcache_scrapy.engine.blobs.objects import ObjectBlobs
from tests.conftest import Service, new_outgrown
from tests.support.servers import ObjectStore, PostgreSQL

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
        """Open a client; to be closed by whoever asked."""
        colour = AsyncImgCacheClient if self.name.endswith("async") else ImgCacheClient
        return Blocking(colour(self.address, **options), self.run)


@dataclass
class Cache:
    """A cache behind a road, shared by all tests; where it is, and its blobs."""

    address: str
    blobs: FileBlobs | ObjectBlobs


@pytest.fixture(scope="session")
def http_cache(shared_service: Service) -> Cache:
    """Serve a cache on SQLite and files."""
    return Cache(shared_service.url, FileBlobs(shared_service.folder / "blobs"))


@pytest.fixture(scope="session")
def http_outgrown_cache(shared_outgrown_service: Service) -> Cache:
    """Serve a cache on PostgreSQL and an object store."""
    service = shared_outgrown_service
    return Cache(service.url, _object_blobs(service.environment))


@pytest.fixture(scope="session")
def embedded_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cache]:
    """Keep an embedded cache open, so that opening it again is cheap."""
    folder = tmp_path_factory.mktemp("embedded") / "imgcache"
    with ImgCacheClient(folder.as_uri()) as client:
        client.health()
        yield Cache(folder.as_uri(), FileBlobs(folder / "blobs"))


@pytest.fixture(scope="session")
def embedded_outgrown_cache(
    tmp_path_factory: pytest.TempPathFactory, postgresql: PostgreSQL, object_store: ObjectStore
) -> Iterator[Cache]:
    """Keep an embedded one open that is on PostgreSQL and an object store."""
    folder = tmp_path_factory.mktemp("embedded-outgrown") / "imgcache"
    environment = new_outgrown(postgresql, object_store)
    with ImgCacheClient(folder.as_uri()) as client:
        with _environment(environment):
            client.health()
        yield Cache(folder.as_uri(), _object_blobs(environment))


def _object_blobs(environment: dict[str, str]) -> ObjectBlobs:
    with _environment(environment):
        return ObjectBlobs(environment["IMGCACHE_BLOBS_URL"])


@contextmanager
def _environment(more: dict[str, str]) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in more.items():
            patch.setenv(name, value)
        yield


@pytest.fixture(params=ROADS)
def road(request: pytest.FixtureRequest) -> Iterator[Road]:
    """Give one of the roads; the caches behind them are shared by all tests."""
    name = request.param.removesuffix("-async").replace("-", "_")
    cache = request.getfixturevalue(f"{name}_cache")
    with asyncio.Runner() as runner:
        yield Road(request.param, cache.address, cache.blobs, runner.run)


@pytest.fixture
def client(road: Road) -> Iterator[Blocking]:
    """Open a client without options."""
    with road.client() as client:
        yield client


@pytest.fixture
def site() -> str:
    """Name a site that no other test stores under."""
    return f"http://{uuid4().hex}.example"


@pytest.fixture
def bucket() -> str:
    """Name a bucket that no other test stores in."""
    return f"bucket-{uuid4().hex}"


@pytest.fixture
def picture() -> Callable[[], bytes]:
    """Make pictures of noise: each call gives other bytes, and another perceptual hash."""

    def make() -> bytes:
        file = BytesIO()
        noise = b"".join(uuid4().bytes for _ in range(64))
        Image.frombytes("L", (32, 32), noise).save(file, "PNG")
        return file.getvalue()

    return make
