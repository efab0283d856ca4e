"""Every way to use a cache: each transport, each storage, with blocking and awaited clients."""

import asyncio
from collections.abc import Callable, Iterator
from uuid import uuid4

import pytest

from imgcache_scrapy import ImgCacheClient
from imgcache_scrapy.engine.blobs.files import FileBlobs
from tests.support.clients import (
    CLIENT_SETUPS,
    BlockingClient,
    Cache,
    ClientSetup,
    changed_environment,
    object_blobs,
)
from tests.support.pictures import picture as picture_of
from tests.support.servers import ObjectStore, PostgreSQL
from tests.support.service import Service, new_storage_environment


@pytest.fixture(scope="session")
def http_cache(shared_service: Service) -> Cache:
    """Serve a cache on SQLite and files."""
    return Cache(shared_service.url, FileBlobs(shared_service.folder / "blobs"))


@pytest.fixture(scope="session")
def http_postgresql_cache(shared_postgresql_service: Service) -> Cache:
    """Serve a cache on PostgreSQL and an object store."""
    service = shared_postgresql_service
    return Cache(service.url, object_blobs(service.environment))


@pytest.fixture(scope="session")
def embedded_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cache]:
    """Keep an embedded cache open, so that opening it again is cheap."""
    folder = tmp_path_factory.mktemp("embedded") / "imgcache"
    with ImgCacheClient(folder.as_uri()) as client:
        open_cache(client)
        yield Cache(folder.as_uri(), FileBlobs(folder / "blobs"))


@pytest.fixture(scope="session")
def embedded_postgresql_cache(
    tmp_path_factory: pytest.TempPathFactory, postgresql: PostgreSQL, object_store: ObjectStore
) -> Iterator[Cache]:
    """Keep an embedded cache on PostgreSQL and an object store open."""
    folder = tmp_path_factory.mktemp("embedded-postgresql") / "imgcache"
    environment = new_storage_environment(postgresql, object_store)
    with ImgCacheClient(folder.as_uri()) as client:
        with changed_environment(environment):
            open_cache(client)
        yield Cache(folder.as_uri(), object_blobs(environment))


def open_cache(client: ImgCacheClient) -> None:
    """Open the cache of a client: a read would not create one."""
    client.store("http://first.example/", b"first", "me", bucket="first")


# Each transport with each storage, each storage with each mode, each mode with each transport.
PAIRS = {"http", "http-postgresql-async", "embedded-async", "embedded-postgresql"}


@pytest.fixture(
    params=[
        pytest.param(name, marks=[pytest.mark.endurance] * (name not in PAIRS))
        for name in CLIENT_SETUPS
    ]
)
def client_setup(request: pytest.FixtureRequest) -> Iterator[ClientSetup]:
    """Return one way to use a cache; all tests share the caches."""
    name = request.param.removesuffix("-async").replace("-", "_")
    cache = request.getfixturevalue(f"{name}_cache")
    with asyncio.Runner() as runner:
        yield ClientSetup(request.param, cache.address, cache.blobs, runner.run)


@pytest.fixture
def client(client_setup: ClientSetup) -> Iterator[BlockingClient]:
    """Open a client without options."""
    with client_setup.open_client() as client:
        yield client


@pytest.fixture
def bucket() -> str:
    """Return the name of a bucket that no other test uses."""
    return f"bucket-{uuid4().hex}"


@pytest.fixture
def picture() -> Callable[[], bytes]:
    """Return a function that creates a picture with new bytes and a new perceptual hash."""

    return lambda: picture_of(uuid4().int)
