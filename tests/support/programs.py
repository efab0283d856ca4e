"""Helpers for tests with several processes and crashes: start programs, and inspect their cache."""

import os
import sqlite3
import subprocess
import sys
import time
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from select import POLLIN, poll
from tempfile import TemporaryDirectory

from imgcache_scrapy.core.entry import content_hash_of
from imgcache_scrapy.engine.blobs.store import OWNER_KEY
from imgcache_scrapy.engine.cache import ImageCache
from imgcache_scrapy.engine.upkeep import Upkeep
from tests.support.forking import run_python, start
from tests.support.waiting import PATIENCE


def blobs(folder):
    """Return the blobs in a cache by the hash in their name, without drafts."""
    paths = (path for path in folder.glob("blobs/*/*") if "#" not in path.name)
    return {path.parent.name + path.name: path.read_bytes() for path in paths}


def blob_files(folder):
    """Return the names of all files in the blobs' folder, except the owner's mark."""
    paths = (path for path in folder.glob("blobs/**/*") if path.is_file())
    return {str(path.relative_to(folder / "blobs")) for path in paths} - {OWNER_KEY}


@contextmanager
def catalog_of(folder):
    """Open the catalog as another process does, without waiting for locks."""
    path = folder / "catalog.sqlite3"
    with closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as database:
        yield database


@contextmanager
def upkeep_of(folder):
    """Open the cache in a folder for its upkeep."""
    with closing(ImageCache.in_folder(folder)) as cache:
        yield Upkeep(cache)


def images(folder):
    """Return the content hashes in the catalog."""
    with catalog_of(folder) as database:
        return {row[0] for row in database.execute("SELECT content_hash FROM image")}


def assert_no_row_without_blob(folder):
    """Assert that every image in the catalog has a valid blob."""
    rows, found = images(folder), blobs(folder)
    assert {name for name, data in found.items() if content_hash_of(data) == name} >= rows


def remove_orphans(folder):
    """Remove all orphans as if they were an hour old.

    Returns:
        The keys of the removed files.
    """
    an_hour_ago = time.time() - 3600
    for path in folder.glob("blobs/**/*"):
        os.utime(path, (an_hour_ago, an_hour_ago))
    with upkeep_of(folder) as upkeep:
        return [orphan.key for orphan in upkeep.orphans() if upkeep.remove(orphan)]


def assert_recovers(folder):
    """Assert that a cache opens quickly after a crash, is sound, and has no files but its images.

    Waiting for the lock of a dead process would take 30 seconds.
    """
    start = time.monotonic()
    with upkeep_of(folder) as upkeep:
        assert time.monotonic() - start < 20
        assert {verdict.state for verdict in upkeep.verify()} <= {"sound"}
        assert upkeep.cache.catalog.stats()["damaged"] == 0
    remove_orphans(folder)
    assert {name.replace("/", "") for name in blob_files(folder)} == images(folder)


PREAMBLE = """
import os, sys
from pathlib import Path
from imgcache_scrapy.engine.cache import ImageCache
os.write(1, b"ready\\n")
"""


@contextmanager
def program(text, *arguments):
    """Start a program that imports the cache and reads its next steps from stdin."""
    process = subprocess.Popen(
        [sys.executable, "-c", PREAMBLE + text, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
    )
    with process:
        try:
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


class ForkedProgram:
    """A program in a fork, which starts faster than an interpreter, with two pipes.

    Attributes:
        stdin: the text that the program reads; each line is sent at once.
        stdout: the text that the program writes.
    """

    def __init__(self, code, arguments, pipes):
        self._errors = pipes / "stderr"
        paths = {name: pipes / name for name in ("stdin", "stdout")}
        for path in paths.values():
            os.mkfifo(path)
        # Neither call waits until the program opens the other end.
        self.stdin = os.fdopen(os.open(paths["stdin"], os.O_RDWR), "w", buffering=1)
        self.stdout = os.fdopen(os.open(paths["stdout"], os.O_RDONLY | os.O_NONBLOCK))
        self._process = start(
            run_python,
            code,
            list(map(str, arguments)),
            folder=Path.cwd(),
            environment=dict(os.environ),
            out=paths["stdout"],
            err=self._errors,
            stdin=paths["stdin"],
        )
        waiting = poll()
        waiting.register(self.stdout, POLLIN)
        while not waiting.poll(100):
            assert self._process.is_alive(), "the program ended while it started"
        os.set_blocking(self.stdout.fileno(), True)

    @property
    def returncode(self):
        """The exit code, as that of a `subprocess.Popen`."""
        return self._process.exitcode

    @property
    def errors(self):
        """What the program has written to its standard error."""
        return self._errors.read_text()

    def kill(self):
        """Kill the program with SIGKILL."""
        self._process.kill()

    def wait(self):
        """Wait until the program ends, and return its exit code."""
        self._process.join(PATIENCE)
        assert self.returncode is not None, "the program did not end"
        return self.returncode

    def communicate(self):
        """End the input of the program, and return the rest of its output."""
        self.stdin.close()
        rest = self.stdout.read()
        self.wait()
        return rest


@contextmanager
def forked_program(text, *arguments):
    """Start a program as `program` does, but in a fork, where more modules are imported."""
    with TemporaryDirectory() as pipes, ExitStack() as stack:
        process = ForkedProgram(PREAMBLE + text, arguments, Path(pipes))
        stack.callback(process.stdout.close)
        stack.callback(process.stdin.close)
        stack.callback(process.wait)
        stack.callback(process.kill)
        assert process.stdout.readline() == "ready\n"
        yield process
