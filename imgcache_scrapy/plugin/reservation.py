"""Reservation: the lock and the memory of one image, from its lookup until its bytes are gone."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, suppress
from contextvars import ContextVar
from typing import Self
from weakref import WeakValueDictionary, finalize

from imgcache_scrapy.plugin.memory import MemoryBudget, Slot

_never_waits: ContextVar[bool] = ContextVar("imgcache_never_waits", default=False)


def never_wait() -> None:
    """Let this task, and the tasks that it starts, wait for no reservation from now on.

    For code that holds a slot and may ask for further images: it would wait for itself.
    """
    _never_waits.set(True)


class KeyLocks:
    """One lock per cache key; a lock is forgotten when nobody holds it or waits for it.

    It is held from the lookup to the end of the store: the next holder finds the image.
    """

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def lock(self, key: str) -> asyncio.Lock:
        """Return the lock of a key."""
        return self._locks.setdefault(key, asyncio.Lock())


class Reservation:
    """The lock of an image's key, and a slot of the memory budget.

    The lock comes first. Code that holds a slot must not wait for another image: see
    `never_wait`.

    Args:
        locks: the locks of the crawl's keys.
        budget: the crawl's memory budget.
        beside_slot: makes a context that is entered together with the slot.
    """

    def __init__(
        self,
        locks: KeyLocks,
        budget: MemoryBudget,
        beside_slot: Callable[[], AbstractContextManager[object]] | None = None,
    ) -> None:
        self._locks = locks
        self._budget = budget
        self._beside_slot = beside_slot
        self._lock = ExitStack()
        self._stack = ExitStack()
        self._slot: Slot | None = None

    async def acquire_lock(self, key: str) -> None:
        """Wait until no other image of the crawl has this key."""
        if not _never_waits.get():
            lock = self._locks.lock(key)
            await lock.acquire()
            self._lock.callback(lock.release)

    def release_lock(self) -> None:
        """Let the next image with this key be looked up: it is stored, or will not be."""
        self._lock.close()

    async def acquire_slot(self, size: int | None = None) -> None:
        """Wait for a slot; does nothing if the reservation has one.

        Args:
            size: bytes of the image, None if not known.
        """
        if self._slot is None:
            if self._beside_slot is not None:
                self._stack.enter_context(self._beside_slot())
            self._slot = self._stack.enter_context(
                await self._budget.acquire(size, waits=not _never_waits.get())
            )

    def resize(self, size: int) -> None:
        """Correct the size of the slot: the body has this many bytes."""
        if self._slot is not None:
            self._slot.resize(size)

    def release(self) -> None:
        """Release everything; a second call does nothing."""
        self.release_lock()
        self._stack.close()

    def release_with(self, owner: object) -> None:
        """Release everything when an object is gone, which may happen without any call to us."""
        loop = asyncio.get_running_loop()
        finalize(owner, _release_in, loop, self).atexit = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def _release_in(loop: asyncio.AbstractEventLoop, reservation: Reservation) -> None:
    # The garbage may be collected in any thread, and after the loop has closed.
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(reservation.release)
