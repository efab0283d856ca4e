"""Decoders: send pictures to child processes, and replace a child that hangs or dies."""

import math
import os
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import LifoQueue
from threading import TIMEOUT_MAX, Event, Lock, Thread
from typing import IO, NamedTuple, cast

from typing_extensions import override

from imgcache_scrapy.core.forks import ForkObserver, no_fork
from imgcache_scrapy.engine.decoding.environment import child_environment
from imgcache_scrapy.engine.decoding.messages import (
    NOT_DECODED,
    QUICK_ONLY,
    READY,
    REQUEST,
    DecodeError,
    ImageInfo,
    read_reply,
    undecodable,
)
from imgcache_scrapy.engine.decoding.signatures import may_be_decoded

CHILDREN = min(max(os.cpu_count() or 1, 2), 4)
"""How many threads can decode quick pictures at the same time, each with a child of its own."""


class TimeLimits(NamedTuple):
    """Limits of wall time in seconds; processor time is limited far more.

    Attributes:
        quick_picture: for one quick picture. Only a child that hangs takes so long.
        quick_failures: for all pictures of a call together that turn out not to be quick.
        slow_picture: for one slow picture.
    """

    quick_picture: float = 5.0
    quick_failures: float = 0.3
    slow_picture: float = 5.0


_TIME_LIMITS = TimeLimits()
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


class Decoders:
    """Child processes for quick pictures, and one for slow pictures, which nobody waits for.

    Args:
        limits: the limits of time.
    """

    def __init__(self, limits: TimeLimits = _TIME_LIMITS) -> None:
        self._limits = limits
        self._quick = [Decoder(limits.quick_picture, QUICK_ONLY) for _ in range(CHILDREN)]
        # The last one that was used is used again, so that few children are started.
        self._free: LifoQueue[Decoder] = LifoQueue()
        for decoder in reversed(self._quick):
            self._free.put(decoder)
        self._full = Decoder(limits.slow_picture)

    def decode_quick(self, pictures: Sequence[bytes]) -> list[ImageInfo]:
        """Find the size and the perceptual hash of each quick picture.

        A quick picture waits for as long as a busy machine needs. Only hostile pictures beside it
        can use up its time.

        Returns:
            The information about each picture; `NOT_DECODED` for pictures that are not quick, and
            for those that come after too many of them.
        """
        decodable = [picture for picture in pictures if may_be_decoded(picture)]
        infos = iter(self._decode_some(decodable) if decodable else ())
        other = undecodable(DecodeError.FORMAT)
        return [next(infos) if may_be_decoded(picture) else other for picture in pictures]

    def decode_slow(self, picture: bytes) -> ImageInfo:
        """Find the size and the perceptual hash of a picture that is not quick.

        Returns:
            The information about the picture; `NOT_DECODED` if the child did not answer in time.
        """
        self._full.start()
        return self._full.decode(picture) or undecodable(DecodeError.TOO_LARGE)

    def _decode_some(self, pictures: Sequence[bytes]) -> list[ImageInfo]:
        decoder = self._free.get()
        try:
            decoder.start()
            return self._decode_each(decoder, pictures)
        finally:
            self._free.put(decoder)

    def _decode_each(self, decoder: "Decoder", pictures: Sequence[bytes]) -> list[ImageInfo]:
        found = []
        seconds_left = self._limits.quick_failures
        for picture in pictures:
            start = time.monotonic()
            info = decoder.decode(picture) if seconds_left > 0 else None
            found.append(info or NOT_DECODED)
            if info is None or info.width is None:
                seconds_left -= time.monotonic() - start
        return found

    def close(self) -> None:
        """Stop all child processes."""
        for decoder in (*self._quick, self._full):
            decoder.close()


class Decoder(ForkObserver):
    """One child process that decodes one picture at a time; any number of threads may use it.

    The first picture starts the child, and the next picture restarts a child that died. The child
    always ends with this process, even if this process is killed or has been forked.

    Args:
        time_limit: seconds of wall time for one picture, from sending it to receiving the answer.
        options: command-line options of the child, see `messages`: what it does with a picture.
    """

    def __init__(self, time_limit: float = _TIME_LIMITS.slow_picture, *options: str) -> None:
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
        waiting = min(max(deadline - time.monotonic(), 0), TIMEOUT_MAX)
        if not self._lock.acquire(timeout=waiting):
            return NOT_DECODED
        try:
            return self._decode_next(data, deadline)
        except BaseException:
            # An answer may still be in the pipe; the next picture must not get it.
            self._stop_child()
            raise
        finally:
            self._lock.release()

    def close(self) -> None:
        """Stop the child after its current picture; a later picture would start a new child."""
        with self._lock:
            self._stop_child()

    def _decode_next(self, data: bytes, deadline: float) -> ImageInfo | None:
        if time.monotonic() >= deadline:
            return NOT_DECODED
        try:
            child = self._running_child()
        except OSError:
            self._stop_child()
            return NOT_DECODED
        try:
            return self._request(child, data, deadline)
        except (OSError, struct.error):
            error = _ERROR_BY_EXIT_CODE.get(self._stop_child())
            return NOT_DECODED if error is None else undecodable(error)

    def _request(
        self, child: subprocess.Popen[bytes], data: bytes, deadline: float
    ) -> ImageInfo | None:
        requests, replies = cast("IO[bytes]", child.stdin), cast("IO[bytes]", child.stdout)
        with self._kill_at(min(deadline, time.monotonic() + self._time_limit)):
            requests.write(REQUEST.pack(len(data)))
            requests.write(data)
            requests.flush()
            return read_reply(replies)

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


def _start_child(options: Iterable[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603 - the options are constants
        # -P: a copy of the package in the current folder must not be found first.
        [sys.executable, "-P", "-m", "imgcache_scrapy.engine.decoding.child", *options],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=child_environment(),
        # Ctrl-C does not reach another process group. The child ignores it only after its start.
        process_group=0,
    )
