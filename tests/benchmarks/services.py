"""Run the services that are measured, and fill their catalogs."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import sqlalchemy as sa

from imgcache_scrapy.core.entry import content_hash_of
from imgcache_scrapy.engine.cache import ImageCache
from imgcache_scrapy.engine.catalog import database, tables, url_index
from imgcache_scrapy.engine.catalog.rows import Capture, Image

ROOT = Path(__file__).parents[2]
_ROWS_PER_INSERT = 20_000
LONG_URL = "https://long.test/0.jpg"
"""The URL of a long history, whose captures are older than all others."""


@contextmanager
def service(folder: Path, *options: str) -> Iterator[tuple[str, int]]:
    """Run `imgcache serve` in a folder; return its address and its process id."""
    serve = "from imgcache_scrapy.cli.main import main; main()"
    command = [sys.executable, "-c", serve, "serve", "--port", "{port}", *options]
    with serving(command, folder) as served:
        yield served


@contextmanager
def serving(command: list[str], folder: Path) -> Iterator[tuple[str, int]]:
    """Run a service in a folder, on a free port for `{port}`; return address and process id."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [part.replace("{port}", str(port)) for part in command],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        while not answers(f"{url}/health"):
            if process.poll() is not None:
                raise subprocess.CalledProcessError(process.returncode, command)
            time.sleep(0.05)
        yield url, process.pid
    finally:
        process.terminate()
        process.wait()


def answers(url: str) -> bool:
    """Return whether a server answers."""
    try:
        urlopen(url, timeout=5).close()
    except (URLError, ConnectionError, TimeoutError):
        return False
    return True


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process and all its children, also of ended ones; Linux only."""
    process = Path(f"/proc/{pid}")
    fields = (process / "stat").read_text().rsplit(")", 1)[1].split()
    used = sum(int(ticks) for ticks in fields[11:15]) / os.sysconf("SC_CLK_TCK")
    children = [(task / "children").read_text() for task in (process / "task").iterdir()]
    return used + sum(cpu_seconds(int(child)) for child in " ".join(children).split())


def fill(database_url: str, blobs_url: str, captures: int) -> None:
    """Create a catalog of this number of images of other sites, each with a capture and no blob.

    Their URLs are `https://S.example/N.jpg`, S being the last three digits of N.
    """
    ImageCache(database_url, blobs_url).close()
    engine = database.create_engine(database_url)
    now = datetime.now(UTC)
    for start in range(0, captures, _ROWS_PER_INSERT):
        images, seen = [], []
        for number in range(start, min(start + _ROWS_PER_INSERT, captures)):
            name = content_hash_of(str(number).encode())
            images.append(Image(name, "image/jpeg", 50_000, 800, 600, name[:16]).row())
            url = f"https://{number % 1000}.example/{number}.jpg"
            row = Capture(url, "", "filler", f"{number}.jpg", now).row()
            seen.append(row | {"content_hash": name, "created_at": row["lookup_time"]})
        with engine.begin() as connection:
            connection.execute(tables.image.insert(), images)
            connection.execute(tables.capture.insert(), seen)
    with engine.begin() as connection:
        url_index.make(connection)
        if engine.dialect.name == "postgresql":
            # PostgreSQL would do this by itself, but later.
            connection.exec_driver_sql("ANALYZE")
    engine.dispose()


def fill_history(database_url: str, url: str, captures: int) -> None:
    """Add captures of one URL, of images in turns that a catalog has already."""
    engine = database.create_engine(database_url)
    row = Capture(url, "", "filler", None, datetime(2000, 1, 1, tzinfo=UTC)).row()
    with engine.begin() as connection:
        names = connection.scalars(sa.select(tables.image.c.content_hash).limit(2)).all()
        rows = [
            row | {"content_hash": names[number % len(names)], "created_at": row["lookup_time"]}
            for number in range(captures)
        ]
        connection.execute(tables.capture.insert(), rows)
    engine.dispose()
