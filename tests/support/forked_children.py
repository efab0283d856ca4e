"""Start decoders and the workers of services quickly: in forks that have imported their modules.

Only the programs of `forking.start` do so: the same process forks for them and for their children.
The children run the same functions, with the same arguments, pipes and limits.
"""

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import forkserver, get_context, reduction, spawn
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import Any, Self

import uvicorn._subprocess

from imgcache_scrapy.engine.decoding import child, decoder
from imgcache_scrapy.engine.decoding.environment import child_environment

_FORKING = get_context("forkserver")


def fork_children() -> None:
    """Let this process, a fork, start its decoders and workers in forks, too."""
    # The process that forks runs already; a fork does not know that.
    forkserver._forkserver.ensure_running = lambda: None  # type: ignore[method-assign]
    # A child must not run the main module of this process.
    spawn.get_preparation_data = lambda _: {"sys_path": sys.path}  # type: ignore[assignment]
    decoder._start_child = ForkedDecoder  # type: ignore[assignment]
    uvicorn._subprocess.spawn = _Workers  # type: ignore[assignment]


class ForkedDecoder:
    """A decoder in a fork, with what the package uses of a `subprocess.Popen`."""

    def __init__(self, options: list[str]) -> None:
        their_input, our_output = os.pipe()
        our_input, their_output = os.pipe()
        self.stdin = os.fdopen(our_output, "wb")
        self.stdout = os.fdopen(our_input, "rb")
        files = _Files(their_input, their_output)
        process = _FORKING.Process(target=_decode, args=(options, child_environment(), files))
        # Not `start`: it would let this process wait for its decoders when it exits.
        self._process: Any = process._Popen(process)  # type: ignore[attr-defined]
        os.close(their_input)
        os.close(their_output)

    @property
    def returncode(self) -> int | None:
        """The exit code, None before the end is known."""
        return self._process.returncode

    def poll(self) -> int | None:
        """Return the exit code, None while the decoder is running."""
        return self._process.poll()

    def kill(self) -> None:
        """Kill the decoder with SIGKILL."""
        with suppress(ProcessLookupError):
            self._process.kill()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stdout.close()
        try:
            self.stdin.close()
        finally:
            self._process.wait()


class _Workers:
    """What uvicorn uses of the context of `multiprocessing`."""

    @staticmethod
    def Process(target: Callable[..., None], kwargs: dict[str, Any]) -> BaseProcess:  # noqa: N802
        setting = dict(os.environ), os.getcwd(), _Files(1, 2)  # noqa: PTH109
        return _FORKING.Process(target=_work, args=(*setting, target, kwargs))


class _Files:
    """Open files that can be sent to a new process, by their numbers."""

    def __init__(self, *numbers: int) -> None:
        self.numbers = numbers

    def __reduce__(self) -> Any:
        return _received, tuple(map(reduction.DupFd, self.numbers))


def _received(*files: Any) -> _Files:
    return _Files(*(file.detach() for file in files))


def _decode(options: list[str], environment: dict[str, str], files: _Files) -> None:
    os.setpgid(0, 0)
    _set_environment(environment)
    for number, file in enumerate((*files.numbers, os.open(os.devnull, os.O_WRONLY))):
        os.dup2(file, number)
        os.close(file)
    sys.stdin, sys.stdout = open(0), open(1, "w")  # noqa: SIM115
    sys.argv[1:] = options
    child.main()


def _work(
    environment: dict[str, str],
    folder: str,
    files: _Files,
    target: Callable[..., None],
    kwargs: dict[str, Any],
) -> None:
    _set_environment(environment)
    os.chdir(folder)
    for number, file in enumerate(files.numbers, start=1):
        os.dup2(file, number)
    # This file is in another place here, and nothing reads it.
    target(**kwargs | {"stdin_fileno": None})


def _set_environment(environment: dict[str, str]) -> None:
    os.environ.clear()
    os.environ.update(environment)
