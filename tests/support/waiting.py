"""Waiting in tests: for events and conditions, never for a fixed time."""

import asyncio
import selectors
import time
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")

PATIENCE = 300
"""Seconds after which a test stops waiting and fails, long enough for a busy machine."""


def wait_until(condition: Callable[[], T], interval: float = 0.01) -> T:
    """Wait until a condition holds.

    Args:
        condition: called repeatedly.
        interval: seconds between the first two calls; later ones are up to five times as long.

    Returns:
        The value that the condition returned.
    """
    deadline, longest = time.monotonic() + PATIENCE, 5 * interval
    while not (found := condition()):
        assert time.monotonic() < deadline, f"this did not happen within {PATIENCE} s"
        time.sleep(interval)
        interval = min(1.2 * interval, longest)
    return found


async def settled() -> None:
    """Let every task run until it waits for something."""
    for _ in range(20):
        await asyncio.sleep(0)


def run_without_waiting(coroutine: Any) -> Any:
    """Run a coroutine on a loop whose clock jumps to the next timer when nothing else is to do.

    The times in it are exact and take no real time. It must not use threads or sockets.
    """
    loop = asyncio.SelectorEventLoop(selector := _JumpingSelector())
    loop.time = lambda: selector.now  # type: ignore[method-assign]
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        return runner.run(coroutine)


class _JumpingSelector(selectors.DefaultSelector):  # type: ignore[valid-type, misc]
    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> Any:
        self.now += max(timeout or 0, 0)
        return super().select(0)
