"""Run `imgcache …` as a user does: in a process, with an exit code and two outputs."""

import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.support.forking import run_python, start
from tests.support.waiting import PATIENCE

IMGCACHE = str(Path(sys.executable).with_name("imgcache"))
MAIN = "from imgcache_scrapy.cli.main import main; main()"


def run_imgcache(folder, *words, env=None):
    """Run `imgcache …` in a folder, without the variables of the cache in the environment.

    Returns:
        The exit code and both outputs, in a `CompletedProcess`.
    """
    environment = {**clean_environment(), **(env or {})}
    with TemporaryDirectory() as outputs:
        out, err = Path(outputs, "out"), Path(outputs, "err")
        process = start(
            run_python,
            MAIN,
            list(map(str, words)),
            folder=folder,
            environment=environment,
            out=out,
            err=err,
        )
        process.join(PATIENCE)
        process.kill()
        process.join()
        return subprocess.CompletedProcess(
            words, process.exitcode, out.read_bytes(), err.read_bytes()
        )


def clean_environment():
    """Return the environment without the variables that tell a command which cache to use."""
    ours = ("IMGCACHE_", "SCRAPY_")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}


def assert_failed(done, *words):
    """Assert exit code 1 and one sentence with these words, after the lines about the location."""
    lines = done.stderr.decode().strip().splitlines()
    assert done.returncode == 1, lines
    assert all(line.startswith(("Cache: ", "Spool: ")) for line in lines[:-1]), "\n".join(lines)
    assert lines[-1].startswith("imgcache: ")
    for word in words:
        assert word in lines[-1]
