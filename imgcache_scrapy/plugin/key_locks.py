"""KeyLocks: one lock per cache key, so that one URL is looked up and fetched once at a time."""

import asyncio
from weakref import WeakValueDictionary


class KeyLocks:
    """The locks of the keys in use; a lock is forgotten when nobody holds it or waits for it."""

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def lock(self, key: str) -> asyncio.Lock:
        """Return the lock of a key.

        It is held from the lookup to the end of the store: the next holder finds the image.
        """
        return self._locks.setdefault(key, asyncio.Lock())
