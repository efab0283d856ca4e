"""What every test may use: photographs, and the cache served by a process of its own."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.servers import ObjectStore, PostgreSQL

PHOTOS = Path(__file__).parents[1] / "example_project" / "photos"
SERVE = "from imgcache_scrapy.cli.main import main; main()"


class Service:
    """`imgcache serve` over the cache in `home/imgcache`, on a port of its own.

    Attributes:
        url: its address, the same one each time it is started.
        folder: where the cache lives.
        environment: what is added to the environment.
        script: what Python runs.
        process: the process that serves, None before the first start.
    """

    def __init__(self, home: Path, *options: str) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self.home = home
        self.folder = home / "imgcache"
        self.options = options
        self.environment: dict[str, str] = {}
        self.script = SERVE
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> str:
        """What it wrote so far."""
        return (self.home / "serve.log").read_text()

    def start(self) -> None:
        """Start it and wait until it answers; harmless when it runs."""
        if self.process is not None and self.process.poll() is None:
            return
        own = {k: v for k, v in os.environ.items() if not k.startswith("IMGCACHE_")}
        with (self.home / "serve.log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    "-c",
                    self.script,
                    "serve",
                    "--port",
                    str(self.port),
                    *self.options,
                ],
                cwd=self.home,
                env=own | self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + 30
        with httpx.Client(timeout=5, trust_env=False) as http:
            while not self._answers(http):
                if self.process.poll() is not None or time.monotonic() > deadline:
                    self.stop()
                    pytest.fail(f"the service did not start:\n{self.log}")
                time.sleep(0.02)

    def stop(self) -> int | None:
        """End it as a service manager would; harmless when repeated.

        Returns:
            Its exit code, None when it was never started.
        """
        if self.process is None:
            return None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            pytest.fail(f"the service did not end on SIGTERM:\n{self.log}")

    def _answers(self, http: httpx.Client) -> bool:
        try:
            return http.get(f"{self.url}/health").is_success
        except httpx.TransportError:
            return False


@pytest.fixture(scope="session")
def photos() -> dict[str, bytes]:
    """Return the example project's pictures by file name."""
    kinds = {".jpg", ".png", ".webp"}
    return {p.name: p.read_bytes() for p in sorted(PHOTOS.iterdir()) if p.suffix in kinds}


@pytest.fixture
def stopped_service(tmp_path: Path) -> Iterator[Service]:
    """Give a service that is not started yet, so that its `options` can be set."""
    service = Service(tmp_path / "service")
    yield service
    service.stop()


@pytest.fixture
def service(stopped_service: Service) -> Service:
    """Serve an empty cache, for one test."""
    stopped_service.start()
    return stopped_service


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSQL]:
    """Start a PostgreSQL server, for all tests; each has databases of its own."""
    server = PostgreSQL()
    yield server
    server.close()


@pytest.fixture(scope="session")
def object_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    """Start an object store, for all tests; each has buckets of its own."""
    with ObjectStore(tmp_path_factory.mktemp("object-store") / "data") as store:
        yield store


def new_outgrown(postgresql: PostgreSQL, object_store: ObjectStore) -> dict[str, str]:
    """Make an empty database and a bucket, and give the environment that names them."""
    return object_store.environment | {
        "IMGCACHE_DATABASE_URL": postgresql.new_database(),
        "IMGCACHE_BLOBS_URL": object_store.new_bucket(),
    }


@pytest.fixture(scope="session")
def shared_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Serve a cache for all tests; each keeps to its own bucket and URLs."""
    service = Service(tmp_path_factory.mktemp("shared") / "service")
    service.start()
    yield service
    service.stop()


@pytest.fixture(scope="session")
def shared_outgrown_service(
    tmp_path_factory: pytest.TempPathFactory, postgresql: PostgreSQL, object_store: ObjectStore
) -> Iterator[Service]:
    """Serve a cache on PostgreSQL and an object store, with two workers, for all tests."""
    service = Service(tmp_path_factory.mktemp("outgrown") / "service", "--workers", "2")
    service.environment = new_outgrown(postgresql, object_store)
    service.start()
    yield service
    service.stop()
