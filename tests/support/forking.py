"""Start programs quickly: each in a fork of a process that has already imported their modules."""

import gc
import multiprocessing
import os
import sys
from collections.abc import Callable
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from tests.support.confinement import confine

REAL_CHILDREN = "TESTS_REAL_CHILDREN"
"""A variable in the environment of a program whose children must not be forks."""

FORKING = multiprocessing.get_context("forkserver")
FORKING.set_forkserver_preload(["tests.support.preloaded"])
# A process with threads must not fork, so OpenBLAS must not start any.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def start(
    function: Callable[..., Any],
    *arguments: Any,
    folder: Path,
    environment: dict[str, str],
    out: Path,
    err: Path | None = None,
    stdin: Path = Path(os.devnull),
) -> ForkServerProcess:
    """Call a function in a new process.

    Args:
        function: a function at the top level of a module.
        arguments: the arguments of the function.
        folder: the working folder.
        environment: all environment variables of the process.
        out: the file to which the process appends its standard output.
        err: the file for its standard error; None for the same file.
        stdin: the file for its standard input.
    """
    files = [str(stdin), str(out), str(err or out)]
    process = FORKING.Process(
        target=_call, args=(function, arguments, str(folder), environment, files)
    )
    process.start()
    return process


def run_python(code: str, arguments: list[str]) -> None:
    """Run code as `python -c CODE ARGUMENTS…` does; `start` can call this function."""
    sys.argv[:] = ["-c", *arguments]
    exec(compile(code, "<program>", "exec"), {"__name__": "__main__"})


def _call(
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
    folder: str,
    environment: dict[str, str],
    files: list[str],
) -> None:
    confine(environment)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update({name: str(value) for name, value in environment.items()})
    # Python reads this variable only when it starts.
    sys.path[1:1] = filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))
    for number, path in enumerate(files):
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT if number else os.O_RDONLY
        os.dup2(os.open(path, flags), number)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115
    if environment.get(REAL_CHILDREN) is None:
        # Not imported by the tests, which only start forks.
        from tests.support.forked_children import fork_children

        fork_children()
    function(*arguments)
    gc.collect()  # Twisted logs an unhandled error when the error is collected.
