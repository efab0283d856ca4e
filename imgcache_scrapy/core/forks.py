"""Forks: what belongs to one process, such as a connection or a pipe, must not outlive a fork."""

import os
from threading import Lock, RLock
from weakref import WeakSet

FORKED = (
    "this client was used before the process was forked: create a client in each process, or start"
    " processes with the method spawn or forkserver"
)
"""The message for a caller in a forked process who uses what belongs to the parent process."""


class ForkObserver:
    """Owns something that belongs to one process; its methods are called at each fork.

    A subclass calls `observe_forks`, and overrides some of the methods.
    """

    def observe_forks(self) -> None:
        """Have the methods below called for as long as this object exists."""
        with _adding:
            _observers.add(self)

    def before_fork(self) -> None:
        """Prepare for a fork, in the process that forks."""

    def after_fork_in_parent(self) -> None:
        """Go on after a fork, in the process that forked."""

    def after_fork_in_child(self) -> None:
        """Let go of what belongs to the parent process, in the new process."""


def _before_fork() -> None:
    no_fork.acquire()
    _adding.acquire()
    for observer in list(_observers):
        observer.before_fork()


def _after_fork_in_parent() -> None:
    for observer in list(_observers):
        observer.after_fork_in_parent()
    _adding.release()
    no_fork.release()


def _after_fork_in_child() -> None:
    for observer in list(_observers):
        observer.after_fork_in_child()
    _adding.release()
    no_fork.release()


no_fork = RLock()
"""Held during what a fork must not interrupt.

An import inside of a function: the new process would find half a module. The start of a child: the
new process would keep the ends of its pipes.
"""

_adding = Lock()
_observers: WeakSet[ForkObserver] = WeakSet()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork_in_parent,
        after_in_child=_after_fork_in_child,
    )
