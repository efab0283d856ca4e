"""The memory of every command is bounded, however many images the cache has."""

from contextlib import closing
from pathlib import Path

import pytest

from imgcache_scrapy.engine.cache import ImageCache
from imgcache_scrapy.engine.catalog import url_index
from imgcache_scrapy.engine.catalog.rows import today
from imgcache_scrapy.engine.catalog.tables import image
from tests.support import many_captures
from tests.support.commands import clean_environment
from tests.support.forking import run_python, start
from tests.support.pictures import picture

# What follows behind the end of a PNG makes it another image.
PIXEL = picture(0, 1)
MAX_MEMORY = 300 * 2**20
# The high-water mark of this process alone; what `getrusage` says includes that of its parent.
PROGRAM = """
import sys
from pathlib import Path

from imgcache_scrapy.cli.main import main

Path("/proc/self/clear_refs").write_text("5")
try:
    main()
finally:
    status = Path("/proc/self/status").read_text()
    peak = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    Path("peak").write_text(peak.split()[1])
"""
COMMANDS = [
    ("ls", "cache", "--json"),
    ("stats", "cache", "--by", "host"),
    ("verify", "cache"),
    ("gc", "cache", "--older-than", "0"),
    ("export", "files", "--cache", "cache"),
    ("export", "shards", "--cache", "cache", "--format", "webdataset"),
    ("import", "files", "--manifest", "files/manifest.jsonl", "--cache", "copy", "--dry-run"),
    ("backup", "backup", "cache"),
    ("rm", "cache", "--host", "7.example", "--yes"),
    ("prune", "cache", "--max-bytes", "10kB"),
    ("rebuild", "backup"),
]
_BATCH = 20_000


def fill(folder, count):
    """Create a cache with many images, which were last used on different days before today."""
    with closing(ImageCache.in_folder(folder)) as cache:
        for start_ in range(0, count, _BATCH):
            numbers = range(start_, min(count, start_ + _BATCH))
            urls = [f"http://{n % 1000}.example/{n}.gif" for n in numbers]
            many_captures.fill(cache, folder / "blobs", urls, PIXEL)
        with cache.catalog.exclusive([]) as transaction:
            url_index.extend(transaction.connection)
            transaction.connection.execute(
                image.update().values(last_used=today() - 1 - image.c.file_size_bytes % 7)
            )


def peak_of(folder, *words):
    """Run a command; return its highest resident memory in bytes."""
    process = start(
        run_python,
        PROGRAM,
        list(words),
        folder=folder,
        environment=clean_environment(),
        out=Path("/dev/null"),
        err=folder / "errors",
    )
    process.join()
    assert process.exitcode == 0, (words, (folder / "errors").read_text()[-2000:])
    return int((folder / "peak").read_text()) * 1024


@pytest.mark.parametrize("count", [300, pytest.param(1_000_000, marks=pytest.mark.endurance)])
def test_each_command_has_enough_with_300_mb(tmp_path, count):
    """Lists and long work are read in pages, so that a cache of 1 M images needs no more."""
    fill(tmp_path / "cache", count)
    peaks = {words: peak_of(tmp_path, *words) for words in COMMANDS}
    assert {words: peak for words, peak in peaks.items() if peak > MAX_MEMORY} == {}
