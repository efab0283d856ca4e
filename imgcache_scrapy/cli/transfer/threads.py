"""Run functions in threads, each to its end: what they use may be closed only afterwards."""

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


async def to_end(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a function in a thread; if the caller is cancelled, wait for its end all the same."""
    running = asyncio.ensure_future(asyncio.to_thread(function, *args, **kwargs))
    cancelled = None
    while not running.done():
        try:
            await asyncio.wait([running])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        running.exception()  # Otherwise asyncio would log it.
        raise cancelled
    return running.result()
