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


class Command:
    """`imgcache …` in a process, without the variables of the cache in the environment.

    Args:
        folder: the working folder.
        words: the words of the command.
        env: variables added to the environment.
        stdin: the text that it reads.
        code: the Python code of another program, which gets these words.
    """

    def __init__(self, folder, *words, env=None, stdin="", code=MAIN):
        self._words = words
        self._outputs = TemporaryDirectory()
        self._paths = [Path(self._outputs.name, name) for name in ("out", "err")]
        out, err = self._paths
        answers = Path(self._outputs.name, "in")
        answers.write_text(stdin)
        self._process = start(
            run_python,
            code,
            list(map(str, words)),
            folder=folder,
            environment={**clean_environment(), **(env or {})},
            out=out,
            err=err,
            stdin=answers,
        )

    def kill(self):
        """Kill the process with SIGKILL."""
        self._process.kill()

    def result(self):
        """Wait for the end, and return the exit code and both outputs in a `CompletedProcess`."""
        self._process.join(PATIENCE)
        self._process.kill()
        self._process.join()
        out, err = (path.read_bytes() if path.exists() else b"" for path in self._paths)
        self._outputs.cleanup()
        return subprocess.CompletedProcess(self._words, self._process.exitcode, out, err)


def run_imgcache(folder, *words, env=None):
    """Run `imgcache …` in a folder, and return the result of the command."""
    return Command(folder, *words, env=env).result()


def clean_environment():
    """Return the environment without the variables that tell a command which cache to use."""
    ours = ("IMGCACHE_", "SCRAPY_")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}


def assert_failed(done, *words):
    """Assert exit code 1 and one sentence with these words, after the lines about the location."""
    lines = done.stderr.decode().strip().splitlines()
    assert done.returncode == 1, lines
    assert all(
        line.startswith(("Cache: ", "Spool: ", "Source: ", "Copy: ")) for line in lines[:-1]
    ), "\n".join(lines)
    assert lines[-1].startswith("imgcache: ")
    for word in words:
        assert word in lines[-1]
