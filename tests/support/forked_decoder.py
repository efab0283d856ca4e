"""Start decoders quickly: in forks of a process that has already imported their modules."""

import os
import sys
from contextlib import suppress
from multiprocessing import reduction
from types import TracebackType
from typing import Any, Self

from imgcache_scrapy.engine.decoding import decoder
from imgcache_scrapy.engine.decoding.environment import child_environment
from tests.support.forking import FORKING


def fork_decoders() -> None:
    """Let this process start its decoders in forks."""
    decoder._start_child = ForkedDecoder  # type: ignore[assignment]


class ForkedDecoder:
    """A decoder in a fork, with what the package uses of a `subprocess.Popen`."""

    def __init__(self, options: list[str]) -> None:
        their_input, our_output = os.pipe()
        our_input, their_output = os.pipe()
        self.stdin = os.fdopen(our_output, "wb")
        self.stdout = os.fdopen(our_input, "rb")
        files = ReceivedFiles(their_input, their_output)
        process = FORKING.Process(target=_decode, args=(options, child_environment(), files))
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


class ReceivedFiles:
    """Open files that can be sent to a new process, by their numbers."""

    def __init__(self, *numbers: int) -> None:
        self.numbers = numbers

    def __reduce__(self) -> Any:
        return _received, tuple(map(reduction.DupFd, self.numbers))


def _received(*files: Any) -> ReceivedFiles:
    return ReceivedFiles(*(file.detach() for file in files))


def _decode(options: list[str], environment: dict[str, str], files: ReceivedFiles) -> None:
    os.setpgid(0, 0)
    # Not imported by the tests, which only start forks.
    from imgcache_scrapy.engine.decoding import child

    set_environment(environment)
    for number, file in enumerate((*files.numbers, os.open(os.devnull, os.O_WRONLY))):
        os.dup2(file, number)
        os.close(file)
    sys.stdin, sys.stdout = open(0), open(1, "w")  # noqa: SIM115
    sys.argv[1:] = options
    child.main()


def set_environment(environment: dict[str, str]) -> None:
    """Replace all environment variables of this process."""
    os.environ.clear()
    os.environ.update(environment)
