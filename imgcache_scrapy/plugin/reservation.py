"""Reservation: the key lock and the memory slot of one image while it is being processed."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, suppress
from contextvars import ContextVar
from typing import Self
from weakref import WeakKeyDictionary, WeakValueDictionary, finalize

from scrapy import Request

from imgcache_scrapy.core.deadline import timeout
from imgcache_scrapy.plugin.memory import MemoryBudget, Slot

_never_waits: ContextVar[bool] = ContextVar("imgcache_never_waits", default=False)


def never_wait() -> None:
    """Stop this task, and the tasks that it starts, from waiting for any reservation.

    Call it in code that holds a slot and may request more images: it could wait for itself.
    """
    _never_waits.set(True)


def may_wait() -> bool:
    """Return whether this task may wait for another image: `never_wait` was not called in it."""
    return not _never_waits.get()


class KeyLocks:
    """One lock per cache key; a lock is deleted when no task holds it or waits for it.

    A task holds the lock from the lookup to the end of the store, so that the next one gets a hit.
    All crawls in an event loop that use the same bucket of the same cache share the locks.
    """

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @classmethod
    def of(cls, cache: str, bucket: str) -> Self:
        """Return the locks for a bucket of a cache, in the running event loop."""
        loop = asyncio.get_running_loop()
        return _shared.setdefault(loop, WeakValueDictionary()).setdefault((cache, bucket), cls())  # type: ignore[return-value]

    def is_in_use(self, key: str) -> bool:
        """Return whether a task holds the lock of a key or waits for it."""
        return key in self._locks

    def lock(self, key: str) -> asyncio.Lock:
        """Return the lock of a key."""
        return self._locks.setdefault(key, asyncio.Lock())


class Reservation:
    """The lock of an image's key and a slot of the memory budget.

    Acquire the lock first. Code that holds a slot must not wait for another image: see
    `never_wait`.

    Args:
        locks: the key locks of the crawl.
        budget: the memory budget of the crawl.
        max_wait: seconds to wait for the lock of a key; None for no limit.
        download_context: creates a context that is entered before a slot is waited for, and left
            when the body has arrived.
    """

    def __init__(
        self,
        locks: KeyLocks,
        budget: MemoryBudget,
        max_wait: float | None = None,
        download_context: Callable[[], AbstractContextManager[object]] | None = None,
    ) -> None:
        self._locks = locks
        self._budget = budget
        self._max_wait = max_wait
        self._download_context = download_context
        self._held_lock = ExitStack()
        self._held_slot = ExitStack()
        self._download = ExitStack()
        self._slot: Slot | None = None

    async def acquire_lock(self, key: str) -> None:
        """Wait for the lock of this key; continue without it if that takes too long."""
        if may_wait():
            # A free lock needs no timeout, which would take most of the time.
            max_wait = self._max_wait if self._locks.is_in_use(key) else None
            lock = self._locks.lock(key)
            with suppress(TimeoutError):
                async with timeout(max_wait):
                    await lock.acquire()
                    self._held_lock.callback(lock.release)

    def release_lock(self) -> None:
        """Release the lock; the next request for this key continues."""
        self._held_lock.close()

    async def acquire_slot(self, size: int | None = None) -> None:
        """Wait for a slot; do nothing if the reservation has one.

        Args:
            size: size of the image in bytes; None if it is not known.
        """
        if self._slot is None:
            if self._download_context is not None:
                self._download.enter_context(self._download_context())
            self._slot = self._held_slot.enter_context(
                await self._budget.acquire(size, waits=may_wait())
            )

    def body_arrived(self, size: int) -> None:
        """Set the size of the slot to the size of the body, in bytes; the download has ended."""
        self._download.close()
        if self._slot is not None:
            self._slot.resize(size)

    def release(self) -> None:
        """Release everything; a second call does nothing."""
        self.release_lock()
        self._download.close()
        self._held_slot.close()

    def release_with(self, owner: object) -> None:
        """Release everything when an object is garbage-collected, if that was not done before."""
        loop = asyncio.get_running_loop()
        finalize(owner, _release_in, loop, self).atexit = False

    def release_after_download(self) -> None:
        """Release everything when the current task has ended, unless it gives a new request.

        Call it in the task of a download. A failure alone does not delete the request, because
        the traceback refers to it.
        """
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - Scrapy downloads each request in a task
        task.add_done_callback(self._release_after)

    def _release_after(self, task: asyncio.Task[object]) -> None:
        has_failed = task.cancelled() or task.exception() is not None
        if has_failed or not isinstance(task.result(), Request):
            self.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def _release_in(loop: asyncio.AbstractEventLoop, reservation: Reservation) -> None:
    # Garbage collection can happen in any thread, and after the loop has closed.
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(reservation.release)


_shared: WeakKeyDictionary[
    asyncio.AbstractEventLoop, WeakValueDictionary[tuple[str, str], KeyLocks]
] = WeakKeyDictionary()
