"""Helpers for tests with several processes and crashes: start programs, and inspect their cache."""

import os
import sqlite3
import subprocess
import sys
import time
from contextlib import closing, contextmanager

from imgcache_scrapy.core.entry import content_hash_of
from imgcache_scrapy.engine.blobs.store import OWNER_KEY
from imgcache_scrapy.engine.cache import ImageCache
from imgcache_scrapy.engine.upkeep import Upkeep


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
