"""Decoder: sends pictures to a child process, and replaces a child that hangs or dies."""

import math
import os
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from threading import TIMEOUT_MAX, Event, Lock, Thread
from typing import IO, TypeAlias, cast

from typing_extensions import override

from imgcache_scrapy.core.forks import ForkObserver, no_fork
from imgcache_scrapy.engine.decoding.environment import child_environment
from imgcache_scrapy.engine.decoding.messages import (
    NOT_DECODED,
    READY,
    REQUEST,
    SIZE,
    DecodeError,
    ImageInfo,
    read_reply,
    undecodable,
)

if sys.platform == "linux":
    import fcntl

SENT_TOGETHER = 8
"""How many pictures are sent and answered together, at most.

After each wait for the child, a thread needs the interpreter lock again. A busy event loop lets it
wait for longer than decoding takes.
"""

BYTES_TOGETHER = 1_000_000
"""The size of the pictures that are sent together, at most."""

Answer: TypeAlias = tuple[ImageInfo | None, float]
"""What decoding a picture gave, see `Decoder.decode`, and the seconds that it took."""

# What is sent together fits, with its headers. It is the largest size of a pipe by default.
_BUFFER_SIZE = 2**20
_SECONDS = 5.0
_WATCH_INTERVAL = 0.1
_START_SECONDS = 20

# The exit code of a child shows what its last picture did. Signals that are not in this table may
# come from outside, for example from the operating system when memory is short.
_ERROR_BY_EXIT_CODE = {
    -getattr(signal, name): error
    for name, error in {
        "SIGVTALRM": DecodeError.TOO_SLOW,
        **dict.fromkeys(("SIGSEGV", "SIGBUS", "SIGABRT", "SIGFPE", "SIGILL"), DecodeError.CRASHED),
    }.items()
    if hasattr(signal, name)
}


class Decoder(ForkObserver):
    """One child process that decodes one picture at a time; any number of threads may use it.

    The first picture starts the child, and the next picture restarts a child that died. The child
    always ends with this process, even if this process is killed or has been forked.

    Args:
        time_limit: seconds of wall time for one picture, until its answer comes.
        options: command-line options of the child, see `messages`: what it does with a picture.
    """

    def __init__(self, time_limit: float = _SECONDS, *options: str) -> None:
        self._time_limit = time_limit
        self._options = options
        self._lock = Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._deadline = math.inf
        self._child_ended = Event()
        self._watcher = Thread()
        self.observe_forks()

    @override
    def after_fork_in_child(self) -> None:
        """Leave the pipes to the parent: its child ends when nobody has the other end of them."""
        child = self._child
        if child is None:
            return
        with Path(os.devnull).open("r+b", buffering=0) as nowhere:
            # Not closed, because that would write what is in the buffer.
            for pipe in filter(None, (child.stdin, child.stdout)):
                os.dup2(nowhere.fileno(), pipe.fileno(), inheritable=False)

    def start(self) -> float:
        """Start the child if there is none, so that its start does not use up a picture's time.

        Returns:
            The duration in seconds.
        """
        before = time.monotonic()
        if self._child is None:
            with self._lock, suppress(OSError):
                self._running_child()
        return time.monotonic() - before

    def decode(self, data: bytes, deadline: float = math.inf) -> ImageInfo | None:
        """Find the size and the perceptual hash of a picture.

        Args:
            data: the whole picture; it may be of any format, broken or hostile.
            deadline: when to stop, by the monotonic clock.

        Returns:
            The information about the picture; `NOT_DECODED` if the failure may have another cause
            than the picture; None if the picture exceeds the limits of the child.
        """
        return self.decode_many([data], deadline)[0][0]

    def decode_many(
        self,
        pictures: Sequence[bytes],
        deadline: float = math.inf,
        failure_seconds: float = math.inf,
    ) -> list[Answer]:
        """Find the sizes and the perceptual hashes of some pictures, which are sent together.

        Args:
            pictures: the pictures, at least one. Their replies together must fit into a pipe.
            deadline: when to stop, by the monotonic clock.
            failure_seconds: the seconds after which failures of these pictures together make the
                child skip the others.

        Returns:
            What `decode` returns for each picture, and the seconds that it took; `NOT_DECODED` for
            the pictures that were skipped. The list ends with the picture on which the child died;
            send the others again.
        """
        start = time.monotonic()
        if not self._lock.acquire(timeout=min(max(deadline - start, 0), TIMEOUT_MAX)):
            return [(NOT_DECODED, time.monotonic() - start)]
        try:
            return self._decode_next(pictures, deadline, failure_seconds)
        except BaseException:
            # An answer may still be in the pipe; the next picture must not get it.
            self._stop_child()
            raise
        finally:
            self._lock.release()

    def close(self) -> None:
        """Stop the child after what it was sent; a later picture would start a new child."""
        with self._lock:
            self._stop_child()

    def _decode_next(
        self, pictures: Sequence[bytes], deadline: float, failure_seconds: float
    ) -> list[Answer]:
        start = time.monotonic()
        if start >= deadline:
            return [(NOT_DECODED, 0)]
        try:
            child = self._running_child()
        except OSError:
            self._stop_child()
            return [(NOT_DECODED, time.monotonic() - start)]
        answers: list[Answer] = []
        try:
            with self._limited(deadline):
                _send(child, pictures, failure_seconds)
            for _ in pictures:
                with self._limited(deadline):
                    answer = read_reply(cast("IO[bytes]", child.stdout))
                answers.append(answer)
        except (OSError, struct.error):
            error = _ERROR_BY_EXIT_CODE.get(self._stop_child())
            seconds = time.monotonic() - start - sum(seconds for _, seconds in answers)
            answers.append((NOT_DECODED if error is None else undecodable(error), seconds))
        return answers

    def _limited(self, deadline: float) -> AbstractContextManager[None]:
        return self._kill_at(min(deadline, time.monotonic() + self._time_limit))

    @contextmanager
    def _kill_at(self, deadline: float) -> Iterator[None]:
        """Let the watcher kill the child at this time, which ends the wait for its answer.

        Raises:
            TimeoutError: the time is over, so that the child may have been killed, even if its
                answer has arrived.
        """
        self._deadline = deadline
        try:
            yield
        finally:
            self._deadline = math.inf
        if time.monotonic() >= deadline:
            raise TimeoutError

    def _watch(self, child: subprocess.Popen[bytes]) -> None:
        """Kill the child at its deadline; a timer for each picture would be too expensive."""
        while not self._child_ended.wait(_WATCH_INTERVAL):
            if time.monotonic() >= self._deadline:
                child.kill()

    def _running_child(self) -> subprocess.Popen[bytes]:
        if self._child is None or self._child.poll() is not None:
            self._stop_child()
            with no_fork:
                self._child = _start_child(self._options)
            self._child_ended.clear()
            self._watcher = Thread(target=self._watch, args=[self._child], daemon=True)
            self._watcher.start()
            with self._kill_at(time.monotonic() + _START_SECONDS):
                if cast("IO[bytes]", self._child.stdout).read(len(READY)) != READY:
                    raise OSError("the decoder's child process ended while it started")
        return self._child

    def _stop_child(self) -> int:
        """Kill the child if there is one.

        Returns:
            Its exit code; if it had died before, the code of that. 0 if there was no child.
        """
        child, self._child = self._child, None
        if child is None:
            return 0
        # `with` closes the pipes. Closing raises OSError if a picture is still in the buffer.
        with suppress(OSError), child:
            child.kill()
        self._child_ended.set()
        self._watcher.join()
        return child.returncode


def _send(
    child: subprocess.Popen[bytes], pictures: Sequence[bytes], failure_seconds: float
) -> None:
    requests = cast("IO[bytes]", child.stdin)
    # If the child has died, its answers up to then tell on which picture.
    with suppress(BrokenPipeError):
        requests.write(REQUEST.pack(len(pictures), failure_seconds))
        for data in pictures:
            requests.write(SIZE.pack(len(data)))
            requests.write(data)
        requests.flush()


def _start_child(options: Iterable[str]) -> subprocess.Popen[bytes]:
    child = subprocess.Popen(  # noqa: S603 - the options are constants
        # -P: a copy of the package in the current folder must not be found first.
        [sys.executable, "-P", "-m", "imgcache_scrapy.engine.decoding.child", *options],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        bufsize=_BUFFER_SIZE,
        stderr=subprocess.DEVNULL,
        env=child_environment(),
        # Ctrl-C does not reach another process group. The child ignores it only after its start.
        process_group=0,
    )
    if sys.platform == "linux":
        # Then sending does not wait for decoding. A user may have few pipes of this size.
        with suppress(OSError):
            fcntl.fcntl(cast("IO[bytes]", child.stdin), fcntl.F_SETPIPE_SZ, _BUFFER_SIZE)
    return child
