"""The cache served by a separate process, and a plain HTTP client for it."""

import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.support.commands import MAIN
from tests.support.forking import run_python, start
from tests.support.servers import ObjectStore, PostgreSQL
from tests.support.waiting import PATIENCE, wait_until

if TYPE_CHECKING:
    from multiprocessing.context import ForkServerProcess


class Service:
    """`imgcache serve` over the cache in `home/imgcache`, on its own port.

    Attributes:
        url: address of the service, the same at each start.
        folder: folder of the cache.
        environment: variables added to the environment.
        script: the Python code to run.
        process: the process that serves, None before the first start.
    """

    def __init__(self, home: Path, *options: str) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self.home = home
        self.folder = home / "imgcache"
        self.options = options
        self.environment: dict[str, str] = {}
        self.script = MAIN
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.process: ForkServerProcess | None = None

    @property
    def log(self) -> str:
        """The output so far."""
        return (self.home / "serve.log").read_text()

    @property
    def is_running(self) -> bool:
        """Whether the process is running."""
        return self.process is not None and self.process.is_alive()

    def start(self) -> None:
        """Start the process and wait until it answers; do nothing if it is running."""
        if self.is_running:
            return
        own = {k: v for k, v in os.environ.items() if not k.startswith("IMGCACHE_")}
        self.process = start(
            run_python,
            self.script,
            ["serve", "--port", str(self.port), *self.options],
            folder=self.home,
            environment=own | self.environment,
            out=self.home / "serve.log",
        )
        with http_client(self.url) as http:
            wait_until(lambda: self._answers(http) or not self.is_running)
        if not self.is_running:
            pytest.fail(f"the service did not start:\n{self.log}")

    def stop(self) -> int | None:
        """Stop the process with SIGTERM; may be called again.

        Returns:
            The exit code, None if the service was never started.
        """
        if self.process is None:
            return None
        self.process.terminate()
        self.process.join(PATIENCE)
        if self.is_running:
            self.process.kill()
            self.process.join()
            pytest.fail(f"the service did not end on SIGTERM:\n{self.log}")
        return self.process.exitcode

    def _answers(self, http: httpx.Client) -> bool:
        try:
            return http.get(f"{self.url}/health").is_success
        except httpx.TransportError:
            return False


def http_client(url: str, **options: Any) -> httpx.Client:
    """Open a plain HTTP client of a service, with no proxy and a long timeout."""
    # Loading the certificates takes longer than most tests, and no service has TLS.
    return httpx.Client(base_url=url, trust_env=False, verify=False, timeout=PATIENCE, **options)


def new_storage_environment(postgresql: PostgreSQL, object_store: ObjectStore) -> dict[str, str]:
    """Create an empty database and a bucket; return the environment variables that name them."""
    return object_store.environment | {
        "IMGCACHE_DATABASE_URL": postgresql.new_database(),
        "IMGCACHE_BLOBS_URL": object_store.new_bucket(),
    }
