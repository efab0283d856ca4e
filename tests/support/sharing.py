"""Share a server among the processes of a test run: the first one that needs it starts it."""

import fcntl
import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

S = TypeVar("S")


@contextmanager
def shared(
    place: Path,
    start: Callable[[], AbstractContextManager[S]],
    address_of: Callable[[S], Any],
    reach: Callable[[Any], S],
) -> Iterator[S]:
    """Start a server, or use the one that another process has started at the same place.

    The process that started it stops it when no other process uses it any more.

    Args:
        place: a path without a suffix in a folder that all processes of the test run use.
        start: starts the server.
        address_of: returns what another process must know about the server, for JSON.
        reach: makes an object for the running server from that.
    """
    address = place.with_suffix(".json")
    with place.with_suffix(".users").open("w") as users, ExitStack() as stack:
        with _alone(place):
            fcntl.flock(users, fcntl.LOCK_SH)
            # Not only closed, because a fork of this process may have it open, too.
            stack.callback(fcntl.flock, users, fcntl.LOCK_UN)
            if address.exists():
                server = reach(json.loads(address.read_text()))
            else:
                server = stack.enter_context(start())
                address.write_text(json.dumps(address_of(server)))
                stack.callback(_end_use, place, users)
        yield server


def _end_use(place: Path, users: Any) -> None:
    """Let no other process use the server, and wait for those that do."""
    with _alone(place):
        place.with_suffix(".json").unlink()
    fcntl.flock(users, fcntl.LOCK_EX)


@contextmanager
def _alone(place: Path) -> Iterator[None]:
    with place.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
