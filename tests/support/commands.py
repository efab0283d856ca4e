"""`imgcache …` as a user runs it: a process, its exit code and what it writes."""

import os
import subprocess
import sys
from pathlib import Path

from tests.support.waiting import PATIENCE

IMGCACHE = str(Path(sys.executable).with_name("imgcache"))


def run_imgcache(folder, *words, env=None, **options):
    """Run `imgcache …` in a folder, without our settings in the environment."""
    options = {"cwd": folder, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    return subprocess.run(
        [IMGCACHE, *map(str, words)],
        env={**clean_environment(), **(env or {})},
        stdin=subprocess.DEVNULL,
        check=False,
        timeout=PATIENCE,
        **options,
    )


def clean_environment():
    """Return the environment without what would tell a command which cache to use."""
    ours = ("IMGCACHE_", "SCRAPY_")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}


def assert_failed(done, *words):
    """Expect exit code 1 and one sentence that has these words, after the cache that is used."""
    lines = done.stderr.decode().strip().splitlines()
    assert done.returncode == 1, lines
    assert all(line.startswith(("Cache: ", "Spool: ")) for line in lines[:-1]), "\n".join(lines)
    assert lines[-1].startswith("imgcache: ")
    for word in words:
        assert word in lines[-1]
