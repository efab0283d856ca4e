"""Has pictures decoded by a child program, so that a bad one costs its facts and not the crawl."""

import math
import os
import struct
import subprocess
import sys
import time
from contextlib import suppress
from threading import Event, Lock, Thread
from typing import IO, NamedTuple, cast

REQUEST = struct.Struct("!Q")
"""What precedes a picture on its way to the child: its size in bytes."""

REPLY = struct.Struct("!IIQ")
"""What comes back: width, height, perceptual hash; all zero for `NO_FACTS`."""


_WATCH_INTERVAL = 0.1


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


class Decoder:
    """One child program that decodes for any number of threads, which queue for it.

    The child starts with the first picture, and anew with the first one after it died. When this
    process ends, however it does, so does the child.

    Args:
        time_limit: seconds of wall time for one picture, from sending it to the answer.
    """

    def __init__(self, time_limit: float = 4.0) -> None:
        self._time_limit = time_limit
        self._lock = Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._deadline = math.inf
        self._ended = Event()
        self._watcher = Thread()

    def facts(self, data: bytes) -> Facts:
        """Tell the size and the perceptual hash of a picture.

        Args:
            data: the whole picture, of whatever format; it may be broken or hostile.

        Returns:
            Its facts, or `NO_FACTS` when they cannot be had within the limits.
        """
        with self._lock:
            try:
                return self._ask(data)
            except (OSError, struct.error):
                self._end_child()
                return NO_FACTS
            except BaseException:
                # Interrupted halfway: the next picture would get this one's answer.
                self._end_child()
                raise

    def close(self) -> None:
        """End the child, after the picture it is at; a later picture would start a new one."""
        with self._lock:
            self._end_child()

    def _ask(self, data: bytes) -> Facts:
        child = self._live_child()
        requests, replies = cast("IO[bytes]", child.stdin), cast("IO[bytes]", child.stdout)
        deadline = self._deadline = time.monotonic() + self._time_limit
        try:
            requests.write(REQUEST.pack(len(data)))
            requests.write(data)
            requests.flush()
            reply = Facts(*REPLY.unpack(replies.read(REPLY.size)))
        finally:
            self._deadline = math.inf
        if time.monotonic() >= deadline:  # The answer came, but the child may have been killed.
            raise TimeoutError
        return reply if reply.width else NO_FACTS

    def _watch(self, child: subprocess.Popen[bytes]) -> None:
        """Kill a child that is late, which ends all waiting for it; a timer a picture is dear."""
        while not self._ended.wait(_WATCH_INTERVAL):
            if time.monotonic() >= self._deadline:
                child.kill()

    def _live_child(self) -> subprocess.Popen[bytes]:
        if self._child is None or self._child.poll() is not None:
            self._end_child()
            self._child = _start_child()
            self._ended.clear()
            self._watcher = Thread(target=self._watch, args=[self._child], daemon=True)
            self._watcher.start()
        return self._child

    def _end_child(self) -> None:
        if self._child:
            # Leaving the block closes the pipes, even if what is left in one cannot be delivered.
            with suppress(OSError), self._child:
                self._child.kill()
            self._child = None
            self._ended.set()
            self._watcher.join()


def _start_child() -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "imgcache_scrapy.engine.decoding"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        # It finds the package where this process did; BLAS, which it does not use, would
        # otherwise reserve memory for every core.
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OPENBLAS_NUM_THREADS": "1"},
        # Ctrl-C does not reach another process group, not even before the child can ignore it.
        process_group=0,
    )
