"""The limits for decoding one picture: pixels, processor time, memory."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

MAX_PIXELS = 25_000_000
"""Pictures with more pixels are not decoded, except JPEGs, which are decoded at a reduced size."""

MEMORY_LIMIT = 190 << 20
"""Bytes of address space for one picture, added to what the program uses at its start."""


class Limits(NamedTuple):
    """The limits for decoding one picture.

    Attributes:
        pixels: maximum number of pixels.
        soft_seconds: maximum processor time, checked while Python code runs; 0 for no limit. If a
            picture takes longer, its decoding is stopped.
        hard_seconds: maximum processor time in user mode, checked by the operating system. If a
            picture takes longer, the program is killed.
    """

    pixels: int
    soft_seconds: float
    hard_seconds: float


# The hard limits are a little lower than the decoder's limits of wall time. If a picture exceeds
# only the wall time, then the machine was busy or the program was paused: the picture may be good.
FULL_LIMITS = Limits(MAX_PIXELS, 0, 1.3)
QUICK_LIMITS = Limits(4_000_000, 0.1, 0.9)
FRAME_LIMITS = Limits(MAX_PIXELS, 1.0, 1.3)


def limit_memory() -> None:
    """Limit the memory of this program, on systems that say how much it uses (Linux)."""
    statm = Path("/proc/self/statm")
    if statm.exists():
        import resource  # noqa: PLC0415

        limit = int(statm.read_text().split()[0]) * resource.getpagesize() + MEMORY_LIMIT
        with suppress(ValueError, OSError):  # Fails if the limit is already lower.
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def lower_priority() -> None:
    """Let other programs of the machine go first (not on Windows)."""
    if sys.platform != "win32":
        # Beside others on the same processor, it gets 3 % of the time.
        os.nice(15)


def prepare_soft_limits() -> None:
    """Handle the signal of `soft_limit`; call it once, at the start of the program."""
    if sys.platform != "win32":
        signal.signal(signal.SIGPROF, _raise_timeout)


@contextmanager
def soft_limit(seconds: float) -> Iterator[None]:
    """Raise TimeoutError if the block takes longer (not on Windows)."""
    if not seconds or sys.platform == "win32":
        yield
        return
    # The signal is repeated, because a plugin may catch the first error and continue.
    signal.setitimer(signal.ITIMER_PROF, seconds, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


@contextmanager
def hard_limit(seconds: float) -> Iterator[None]:
    """Let the system kill the program by SIGVTALRM if the block takes longer (not on Windows)."""
    if sys.platform == "win32":
        yield
        return
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)


def _raise_timeout(_signal: int, _frame: object) -> None:
    if signal.getitimer(signal.ITIMER_PROF) != (0, 0):  # Else the signal came too late.
        raise TimeoutError
