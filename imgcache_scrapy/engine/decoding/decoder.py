"""Has pictures decoded by child programs, which are replaced when they hang or die."""

import math
import os
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from threading import TIMEOUT_MAX, Event, Lock, Thread
from typing import IO, cast

from imgcache_scrapy.engine.decoding.messages import (
    NOT_DECODED,
    READY,
    REPLY,
    REQUEST,
    SMALL_ONLY,
    DecodeError,
    ImageInfo,
    info_of_reply,
    undecodable,
)

TIME_LIMIT = 1.5
"""Seconds for one picture, and for pictures that are decoded together, beside their bytes'."""

TIME_PER_BYTE = 1e-7
"""Seconds more for each byte: good pictures that take long are large, and bombs are not."""

_WATCH_INTERVAL = 0.1
_START_SECONDS = 20

# By the exit code of a child that was decoding a picture: what the picture did to it. Signals
# that are not here may have come from outside.
_FAULTS = {
    -getattr(signal, name): error
    for name, error in {
        "SIGVTALRM": DecodeError.TOO_SLOW,
        **dict.fromkeys(("SIGSEGV", "SIGBUS", "SIGABRT", "SIGFPE", "SIGILL"), DecodeError.CRASHED),
    }.items()
    if hasattr(signal, name)
}


class Decoders:
    """Two child programs, so that small pictures never wait for large ones."""

    def __init__(self) -> None:
        self._small = Decoder(time_limit=1.0, small_only=True)
        self._large = Decoder()

    def decode_many(self, pictures: Sequence[bytes]) -> list[ImageInfo]:
        """Find the size and the perceptual hash of each picture, small ones first.

        Returns:
            What was found out about each. Pictures whose turn does not come before the deadline
            for all are `NOT_DECODED`.
        """
        self._small.start()
        seconds = TIME_LIMIT + TIME_PER_BYTE * sum(map(len, pictures))
        deadline = time.monotonic() + seconds
        found = [self._small.decode(picture, deadline) for picture in pictures]
        if None in found:
            deadline += self._large.start()
        return [
            self._large.decode(picture, deadline) or undecodable(DecodeError.TOO_LARGE)
            if info is None
            else info
            for picture, info in zip(pictures, found, strict=True)
        ]

    def close(self) -> None:
        """End the children."""
        self._small.close()
        self._large.close()


class Decoder:
    """One child program that decodes for any number of threads, which queue for it.

    The child starts with the first picture, and anew with the first one after it died. When this
    process ends, however it does, so does the child.

    Args:
        time_limit: seconds of wall time for one picture, from sending it to the answer.
        small_only: whether only pictures that take next to no time are decoded.
    """

    def __init__(self, time_limit: float = TIME_LIMIT, *, small_only: bool = False) -> None:
        self._time_limit = time_limit
        self._options = [SMALL_ONLY] if small_only else []
        self._lock = Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._deadline = math.inf
        self._ended = Event()
        self._watcher = Thread()

    def start(self) -> float:
        """Start the child where there is none, so that no picture pays for it with its time.

        Returns:
            How many seconds that took.
        """
        before = time.monotonic()
        if self._child is None:
            with self._lock, suppress(OSError):
                self._live_child()
        return time.monotonic() - before

    def decode(self, data: bytes, deadline: float = math.inf) -> ImageInfo | None:
        """Find the size and the perceptual hash of a picture.

        Args:
            data: the whole picture, of whatever format; it may be broken or hostile.
            deadline: when to give it up, by the monotonic clock.

        Returns:
            What was found out, `NOT_DECODED` where the picture had no fair chance; None when it
            costs more than the child may spend.
        """
        waiting = min(max(deadline - time.monotonic(), 0), TIMEOUT_MAX)
        if not self._lock.acquire(timeout=waiting):
            return NOT_DECODED
        try:
            return self._decode_next(data, deadline)
        except BaseException:
            # Interrupted halfway: the next picture would get this one's answer.
            self._end_child()
            raise
        finally:
            self._lock.release()

    def close(self) -> None:
        """End the child, after the picture it is at; a later picture would start a new one."""
        with self._lock:
            self._end_child()

    def _decode_next(self, data: bytes, deadline: float) -> ImageInfo | None:
        if time.monotonic() >= deadline:
            return NOT_DECODED
        try:
            child = self._live_child()
        except OSError:
            self._end_child()
            return NOT_DECODED
        try:
            return self._ask(child, data, deadline)
        except (OSError, struct.error):
            fault = _FAULTS.get(self._end_child())
            return NOT_DECODED if fault is None else undecodable(fault)

    def _ask(
        self, child: subprocess.Popen[bytes], data: bytes, deadline: float
    ) -> ImageInfo | None:
        requests, replies = cast("IO[bytes]", child.stdin), cast("IO[bytes]", child.stdout)
        with self._killing_at(min(deadline, time.monotonic() + self._time_limit)):
            requests.write(REQUEST.pack(len(data)))
            requests.write(data)
            requests.flush()
            return info_of_reply(replies.read(REPLY.size))

    @contextmanager
    def _killing_at(self, deadline: float) -> Iterator[None]:
        """Have the child killed at this time, which ends the wait for its answer.

        Raises:
            TimeoutError: it may have been killed, even if an answer came.
        """
        self._deadline = deadline
        try:
            yield
        finally:
            self._deadline = math.inf
        if time.monotonic() >= deadline:
            raise TimeoutError

    def _watch(self, child: subprocess.Popen[bytes]) -> None:
        """Kill a child that exceeds its deadline. A timer for each picture would cost too much."""
        while not self._ended.wait(_WATCH_INTERVAL):
            if time.monotonic() >= self._deadline:
                child.kill()

    def _live_child(self) -> subprocess.Popen[bytes]:
        if self._child is None or self._child.poll() is not None:
            self._end_child()
            self._child = _start_child(self._options)
            self._ended.clear()
            self._watcher = Thread(target=self._watch, args=[self._child], daemon=True)
            self._watcher.start()
            with self._killing_at(time.monotonic() + _START_SECONDS):
                if cast("IO[bytes]", self._child.stdout).read(len(READY)) != READY:
                    raise OSError("the decoder ended while it started")
        return self._child

    def _end_child(self) -> int:
        """Kill the child, if there is one.

        Returns:
            Its exit code, which is its own where it had died by itself; 0 without a child.
        """
        child, self._child = self._child, None
        if child is None:
            return 0
        # Leaving the block closes the pipes, even if what is left in one cannot be delivered.
        with suppress(OSError), child:
            child.kill()
        self._ended.set()
        self._watcher.join()
        return child.returncode


def _start_child(options: list[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603 - the options are this file's
        [sys.executable, "-m", "imgcache_scrapy.engine.decoding.child", *options],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        # It finds the package where this process did. BLAS, which it does not use, reserves memory
        # for every core unless it is told not to.
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OPENBLAS_NUM_THREADS": "1"},
        # Ctrl-C does not reach another process group, not even before the child can ignore it.
        process_group=0,
    )
