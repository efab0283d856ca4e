"""MemoryBudget: limits the image bodies that are in memory at the same time."""

import asyncio
from collections import OrderedDict, deque
from typing import Self

# Media downloads bypass CONCURRENT_REQUESTS, so bodies would pile up while stores are running. Two
# batches of 32 may be stored while the next images are fetched.
MAX_IMAGES = 96
MAX_BYTES = 64 * 2**20
_FIRST_ESTIMATE = 4 * 2**20


class MemoryBudget:
    """Limits the bodies in memory, by count and by bytes; callers wait while it is used up.

    Args:
        max_images: maximum number of images.
        max_bytes: maximum number of bytes; a single image may be larger.
    """

    def __init__(self, *, max_images: int = MAX_IMAGES, max_bytes: int = MAX_BYTES) -> None:
        self._max_images = max_images
        self._max_bytes = max_bytes
        self._used: dict[Slot, int] = {}
        self._queue: OrderedDict[Slot, asyncio.Future[None]] = OrderedDict()
        self._last_sizes: deque[int] = deque([_FIRST_ESTIMATE], maxlen=max_images)

    async def acquire(self, size: int | None = None, *, waits: bool = True) -> "Slot":
        """Wait for a slot for one image.

        Args:
            size: size of the image in bytes; None if it is not known. Then it is estimated as
                the largest of the last images.
            waits: False to get the slot at once, even if the budget is used up.
        """
        slot = Slot(self, max(self._last_sizes) if size is None else size)
        if not waits or (not self._queue and self._has_space(slot.expected)):
            self._used[slot] = slot.expected
            return slot
        turn = self._queue[slot] = asyncio.get_running_loop().create_future()
        try:
            await turn
        except BaseException:
            self._queue.pop(slot, None)
            self._used.pop(slot, None)
            self._admit()
            raise
        return slot

    def _has_space(self, size: int) -> bool:
        if not self._used:
            return True
        is_over = sum(self._used.values()) + size > self._max_bytes
        return len(self._used) < self._max_images and not is_over

    def remember_size(self, size: int) -> None:
        """Use the size of a fetched image to estimate the next ones."""
        self._last_sizes.append(size)

    def _resize(self, slot: "Slot", size: int) -> None:
        if slot in self._used:
            self._used[slot] = size
            self._admit()

    def _release(self, slot: "Slot") -> None:
        if self._used.pop(slot, None) is not None:
            self._admit()

    def _admit(self) -> None:
        while self._queue:
            slot, turn = next(iter(self._queue.items()))
            if not self._has_space(slot.expected):
                return
            del self._queue[slot]
            self._used[slot] = slot.expected
            if not turn.done():
                turn.set_result(None)


class Slot:
    """The part of a `MemoryBudget` that one image uses; release it after the body is dropped."""

    def __init__(self, budget: MemoryBudget, expected: int) -> None:
        self.expected = expected
        self._budget = budget

    def resize(self, size: int) -> None:
        """Set the number of bytes when it is known."""
        self._budget._resize(self, size)  # noqa: SLF001

    def release(self) -> None:
        """Free the slot for the next image; a second call does nothing."""
        self._budget._release(self)  # noqa: SLF001

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()
