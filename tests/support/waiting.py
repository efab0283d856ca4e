"""How tests wait: for an event or a condition, never for a time that a busy machine may need."""

import asyncio
import selectors
import time
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")

PATIENCE = 300
"""Seconds after which a test gives up waiting. What does not happen by then will not happen."""


def wait_until(condition: Callable[[], T], interval: float = 0.01) -> T:
    """Wait until a condition holds.

    Args:
        condition: is asked again and again.
        interval: seconds between two questions.

    Returns:
        What the condition returned.
    """
    deadline = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < deadline, f"this did not happen within {PATIENCE} s"
        time.sleep(interval)
    return found


async def settled() -> None:
    """Let every task run until it waits for something that the test holds back."""
    for _ in range(20):
        await asyncio.sleep(0)


def run_without_waiting(coroutine: Any) -> Any:
    """Run a coroutine on a loop whose clock jumps to the next timer when nothing else is left.

    The times in it are exact on any machine, and take no time. It must not use threads or sockets.
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
