"""What tests of crowds and crashes share: programs to be killed, and a look at what they left."""

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
    """The blobs by the hash in their name, drafts left out."""
    paths = (path for path in folder.glob("blobs/*/*") if "#" not in path.name)
    return {path.parent.name + path.name: path.read_bytes() for path in paths}


def kept(folder):
    """The names of all files in the blobs' folder, but for the one that says whose they are."""
    paths = (path for path in folder.glob("blobs/**/*") if path.is_file())
    return {str(path.relative_to(folder / "blobs")) for path in paths} - {OWNER_KEY}


@contextmanager
def catalog_of(folder):
    """The catalog as another process sees it, which does not wait for locks."""
    path = folder / "catalog.sqlite3"
    with closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as database:
        yield database


@contextmanager
def upkeep_of(folder):
    """Open the cache in a folder, for its upkeep."""
    with closing(ImageCache.in_folder(folder)) as cache:
        yield Upkeep(cache)


def images(folder):
    with catalog_of(folder) as database:
        return {row[0] for row in database.execute("SELECT content_hash FROM image")}


def assert_no_row_without_blob(folder):
    rows, kept = images(folder), blobs(folder)
    assert {name for name, data in kept.items() if content_hash_of(data) == name} >= rows


def swept(folder):
    """Remove all that no image owns, an hour from now.

    Returns:
        What was removed.
    """
    an_hour_ago = time.time() - 3600
    for path in folder.glob("blobs/**/*"):
        os.utime(path, (an_hour_ago, an_hour_ago))
    with upkeep_of(folder) as upkeep:
        return [orphan.key for orphan in upkeep.orphans() if upkeep.remove(orphan)]


def assert_recovers(folder):
    """Expect of what a crash left: it opens at once, is sound, and is swept to its images.

    To wait for a lock that nobody holds any more would take 30 seconds.
    """
    start = time.monotonic()
    with upkeep_of(folder) as upkeep:
        assert time.monotonic() - start < 20
        assert {verdict.state for verdict in upkeep.verify()} <= {"sound"}
        assert upkeep.cache.catalog.stats()["damaged"] == 0
    swept(folder)
    assert {name.replace("/", "") for name in kept(folder)} == images(folder)


PREAMBLE = """
import os, sys
from pathlib import Path
from imgcache_scrapy.engine.cache import ImageCache
os.write(1, b"ready\\n")
"""


@contextmanager
def program(text, *arguments):
    """Run a program that has imported the cache and reads what to do next from its stdin."""
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
