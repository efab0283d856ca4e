"""The four roads to a cache, blocking or awaited, over HTTP or in this process, as one."""

import asyncio
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

import pytest
from PIL import Image

from imgcache_scrapy import AsyncImgCacheClient, ImgCacheClient

ROADS = ("http", "http-async", "embedded", "embedded-async")


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
        folder: where the cache behind it lives.
        run: runs a coroutine on the test's loop.
    """

    name: str
    address: str
    folder: Path
    run: Callable[..., Any]

    def client(self, **options: Any) -> Blocking:
        """Open a client; to be closed by whoever asked."""
        colour = AsyncImgCacheClient if self.name.endswith("async") else ImgCacheClient
        return Blocking(colour(self.address, **options), self.run)


@pytest.fixture(scope="session")
def embedded_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Keep an embedded cache open, so that opening it again is cheap."""
    folder = tmp_path_factory.mktemp("embedded") / "imgcache"
    with ImgCacheClient(folder.as_uri()) as client:
        client.health()
        yield folder


@pytest.fixture(params=ROADS)
def road(request: pytest.FixtureRequest) -> Iterator[Road]:
    """Give one of the four roads; the caches behind them are shared by all tests."""
    if request.param.startswith("http"):
        service = request.getfixturevalue("shared_service")
        address, folder = service.url, service.folder
    else:
        folder = request.getfixturevalue("embedded_folder")
        address = folder.as_uri()
    with asyncio.Runner() as runner:
        yield Road(request.param, address, folder, runner.run)


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
