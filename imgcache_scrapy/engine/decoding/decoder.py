"""Has pictures decoded by a child program, so that a bad one costs its facts and not the crawl."""

import math
import os
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from threading import TIMEOUT_MAX, Event, Lock, Thread
from typing import IO, NamedTuple, cast

READY = b"."
"""What the child writes when it has started."""

REQUEST = struct.Struct("!Q")
"""What precedes a picture on its way to the child: its size in bytes."""

REPLY = struct.Struct("!IIQ")
"""What comes back: width, height, perceptual hash; all zero for `NO_FACTS`."""

SMALL_ONLY = "--small-only"
"""What makes a child decode only what is decoded in no time."""

PATIENCE = 1.5
"""Seconds that pictures may take which are examined together, however few bytes they have."""

PATIENCE_PER_BYTE = 1e-7
"""Seconds more for each byte: honest pictures that take long are large, and bombs are not."""

_WATCH_INTERVAL = 0.1
_START_SECONDS = 20


class Facts(NamedTuple):
    """What decoding tells about a picture; either all of it or nothing.

    Attributes:
        width: pixels, as displayed, that is after the EXIF orientation.
        height: pixels, as displayed.
        perceptual_hash: 64 bits, unsigned.
    """

    width: int | None
    height: int | None
    perceptual_hash: int | None


NO_FACTS = Facts(None, None, None)
"""Of a picture that cannot or may not be decoded."""

COSTLY = Facts(0, 1, 0)
"""Of a picture that costs more than the child may spend."""


class Decoders:
    """Two child programs, so that small pictures never wait for large ones."""

    def __init__(self) -> None:
        self._small = Decoder(time_limit=1.0, small_only=True)
        self._large = Decoder()

    def facts_of_many(self, pictures: Sequence[bytes]) -> list[Facts]:
        """Tell the size and the perceptual hash of each picture, small ones first.

        Returns:
            The facts of each, `NO_FACTS` when they cannot be had within the limits, or not within
            the patience for all.
        """
        self._small.start()
        patience = PATIENCE + PATIENCE_PER_BYTE * sum(map(len, pictures))
        deadline = time.monotonic() + patience
        found = [self._small.facts(picture, deadline) for picture in pictures]
        if COSTLY in found:
            deadline += self._large.start()
        return [
            self._whatever_it_costs(picture, deadline) if facts == COSTLY else facts
            for picture, facts in zip(pictures, found, strict=True)
        ]

    def _whatever_it_costs(self, picture: bytes, deadline: float) -> Facts:
        facts = self._large.facts(picture, deadline)
        return NO_FACTS if facts == COSTLY else facts

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
        small_only: whether only what is decoded in no time is decoded at all.
    """

    def __init__(self, time_limit: float = PATIENCE, *, small_only: bool = False) -> None:
        self._time_limit = time_limit
        self._options = [SMALL_ONLY] if small_only else []
        self._lock = Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._deadline = math.inf
        self._ended = Event()
        self._watcher = Thread()

    def start(self) -> float:
        """Start the child where there is none, which is not the next picture's fault.

        Returns:
            How many seconds that took.
        """
        before = time.monotonic()
        if self._child is None:
            with self._lock, suppress(OSError):
                self._live_child()
        return time.monotonic() - before

    def facts(self, data: bytes, deadline: float = math.inf) -> Facts:
        """Tell the size and the perceptual hash of a picture.

        Args:
            data: the whole picture, of whatever format; it may be broken or hostile.
            deadline: when to give it up, by the monotonic clock.

        Returns:
            Its facts, `COSTLY` when they cost more than the child may spend, or `NO_FACTS` when
            they cannot be had.
        """
        patience = min(max(deadline - time.monotonic(), 0), TIMEOUT_MAX)
        if not self._lock.acquire(timeout=patience):
            return NO_FACTS
        try:
            if time.monotonic() >= deadline:
                return NO_FACTS
            return self._ask(data, deadline)
        except (OSError, struct.error):
            self._end_child()
            return NO_FACTS
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

    def _ask(self, data: bytes, deadline: float) -> Facts:
        child = self._live_child()
        requests, replies = cast("IO[bytes]", child.stdin), cast("IO[bytes]", child.stdout)
        deadline = min(deadline, time.monotonic() + self._time_limit)
        with self._killing_at(deadline):
            requests.write(REQUEST.pack(len(data)))
            requests.write(data)
            requests.flush()
            reply = Facts(*REPLY.unpack(replies.read(REPLY.size)))
        return reply if any(reply) else NO_FACTS

    @contextmanager
    def _killing_at(self, deadline: float) -> Iterator[None]:
        """Have the child killed at this time, which ends all waiting for it.

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
        """Kill a child that is late, which ends all waiting for it; a timer a picture is dear."""
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
                cast("IO[bytes]", self._child.stdout).read(len(READY))
        return self._child

    def _end_child(self) -> None:
        if self._child:
            # Leaving the block closes the pipes, even if what is left in one cannot be delivered.
            with suppress(OSError), self._child:
                self._child.kill()
            self._child = None
            self._ended.set()
            self._watcher.join()


def _start_child(options: list[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603 - the options are this file's
        [sys.executable, "-m", "imgcache_scrapy.engine.decoding.child", *options],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        # It finds the package where this process did; BLAS, which it does not use, would
        # otherwise reserve memory for every core.
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OPENBLAS_NUM_THREADS": "1"},
        # Ctrl-C does not reach another process group, not even before the child can ignore it.
        process_group=0,
    )
