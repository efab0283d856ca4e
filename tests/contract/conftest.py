"""The roads to a cache, each to one on SQLite and files, and to one on larger storage."""

import asyncio
from collections.abc import Callable, Iterator
from uuid import uuid4

import pytest

from imgcache_scrapy import ImgCacheClient
from imgcache_scrapy.engine.blobs.files import FileBlobs
from tests.support.clients import ROADS, Blocking, Cache, Road, changed_environment, object_blobs
from tests.support.pictures import picture as picture_of
from tests.support.servers import ObjectStore, PostgreSQL
from tests.support.service import Service, new_outgrown


@pytest.fixture(scope="session")
def http_cache(shared_service: Service) -> Cache:
    """Serve a cache on SQLite and files."""
    return Cache(shared_service.url, FileBlobs(shared_service.folder / "blobs"))


@pytest.fixture(scope="session")
def http_outgrown_cache(shared_outgrown_service: Service) -> Cache:
    """Serve a cache on PostgreSQL and an object store."""
    service = shared_outgrown_service
    return Cache(service.url, object_blobs(service.environment))


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
        with changed_environment(environment):
            client.health()
        yield Cache(folder.as_uri(), object_blobs(environment))


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
def bucket() -> str:
    """Name a bucket that no other test stores in."""
    return f"bucket-{uuid4().hex}"


@pytest.fixture
def picture() -> Callable[[], bytes]:
    """Make pictures of noise: each call gives other bytes, and another perceptual hash."""

    return lambda: picture_of(uuid4().int)
