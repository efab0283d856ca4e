"""Fixtures for all tests: pictures, servers, and caches served by separate processes."""

import asyncio
import gc
import inspect
import os
from collections.abc import Generator, Iterator
from contextlib import closing
from pathlib import Path
from uuid import uuid4

import hypothesis
import pytest

from imgcache_scrapy.engine.decoding import decoder
from tests.support.forked_decoder import fork_decoders
from tests.support.patience import wait_for_answers, wait_for_small_pictures
from tests.support.recorded_migrations import record_migrations, run_migrations
from tests.support.servers import ObjectStore, ObjectStoreServer, PostgreSQL, PostgreSQLServer
from tests.support.service import Service, new_storage_environment
from tests.support.sharing import shared

PHOTOS = Path(__file__).parents[1] / "example_project" / "photos"

# Examples have no deadline, because a busy machine may be slow. Each run tries other examples;
# `--hypothesis-profile thorough` tries more at once.
for profile, count in {"imgcache": 20, "thorough": 500}.items():
    hypothesis.settings.register_profile(
        profile,
        deadline=None,
        max_examples=count,
        suppress_health_check=[hypothesis.HealthCheck.too_slow],
    )
hypothesis.settings.load_profile("imgcache")
wait_for_small_pictures()
wait_for_answers()
start_decoder = decoder._start_child
fork_decoders()
record_migrations()


def pytest_xdist_auto_num_workers() -> int:
    """Start more workers than there are processors, because many tests wait for a server."""
    return (os.cpu_count() or 1) + 2


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Keep modules and collected tests out of the garbage collector, which finds nothing there."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run each test that is a coroutine function on its own event loop."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = inspect.signature(pyfuncitem.obj).parameters
    asyncio.run(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names}))
    return True


@pytest.fixture(scope="session")
def photos() -> dict[str, bytes]:
    """Return the example project's pictures by file name."""
    kinds = {".jpg", ".png", ".webp"}
    return {p.name: p.read_bytes() for p in sorted(PHOTOS.iterdir()) if p.suffix in kinds}


@pytest.fixture
def real_decoders(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start the decoders of this process as the package does, not in forks."""
    monkeypatch.setattr(decoder, "_start_child", start_decoder)


@pytest.fixture
def real_migrations() -> Iterator[None]:
    """Run the migrations for each new catalog, as the package does."""
    run_migrations()
    yield
    record_migrations()


@pytest.fixture
def site() -> str:
    """Return the address of a site that no other test uses."""
    return f"http://{uuid4().hex}.example"


@pytest.fixture
def stopped_service(tmp_path: Path) -> Iterator[Service]:
    """Return a service that is not started yet, so that the test can set its `options`."""
    service = Service(tmp_path / "service")
    yield service
    service.stop()


@pytest.fixture
def service(stopped_service: Service) -> Service:
    """Serve an empty cache for one test."""
    stopped_service.start()
    return stopped_service


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder that all workers of this test run use."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


@pytest.fixture(scope="session")
def postgresql(run_folder: Path) -> Iterator[PostgreSQL]:
    """Start a PostgreSQL server for all workers; each test creates its own databases."""
    with shared(
        run_folder / "postgresql",
        lambda: closing(PostgreSQLServer()),
        lambda server: server.host,
        PostgreSQL,
    ) as server:
        yield server


@pytest.fixture(scope="session")
def object_store(
    run_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ObjectStore]:
    """Start an object store for all workers; each test creates its own buckets."""
    with shared(
        run_folder / "object-store",
        lambda: ObjectStoreServer(tmp_path_factory.mktemp("object-store") / "data"),
        lambda server: server.environment,
        ObjectStore,
    ) as server:
        yield server


@pytest.fixture(scope="session")
def shared_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Serve a cache for all tests; each test uses its own bucket and URLs."""
    service = Service(tmp_path_factory.mktemp("shared") / "service")
    service.start()
    yield service
    service.stop()


@pytest.fixture(scope="session")
def shared_postgresql_service(
    tmp_path_factory: pytest.TempPathFactory, postgresql: PostgreSQL, object_store: ObjectStore
) -> Iterator[Service]:
    """Serve a cache on PostgreSQL and an object store with two workers, for all tests."""
    service = Service(tmp_path_factory.mktemp("postgresql-service") / "service", "--workers", "2")
    service.environment = new_storage_environment(postgresql, object_store)
    service.start()
    yield service
    service.stop()
