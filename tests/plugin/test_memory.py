"""MemoryBudget: limits how many image bodies are in memory at the same time."""

import asyncio
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgcache_scrapy.plugin.memory import MemoryBudget
from tests.support.waiting import PATIENCE, settled


class NamedSlots:
    """Slots of a budget, by name; a task acquires each slot, and the test releases it."""

    def __init__(self, **limits):
        self.budget = MemoryBudget(**limits)
        self.held = {}

    async def acquire(self, name, size):
        task = asyncio.create_task(self._hold(name, size))
        await settled()
        return task

    async def _hold(self, name, size):
        self.held[name] = await self.budget.acquire(size)

    async def release(self, name):
        self.held.pop(name).release()
        await settled()

    def names(self):
        return "".join(self.held)


async def test_a_slot_without_waiting_is_granted_at_once():
    """A caller that holds a slot must not wait for another one, but the second slot counts too."""
    budget = MemoryBudget(max_images=1, max_bytes=10)
    first = await budget.acquire(10)
    second = await budget.acquire(10, waits=False)
    waiting = asyncio.create_task(budget.acquire(1))
    first.release()
    await settled()
    assert not waiting.done()
    second.release()
    (await waiting).release()


async def test_the_number_of_images_is_limited():
    """One more image than the limit waits for the release of a slot."""
    slots = NamedSlots(max_images=2, max_bytes=100)
    for name in "abc":
        await slots.acquire(name, 1)
    assert slots.names() == "ab"
    await slots.release("a")
    assert slots.names() == "bc"


async def test_the_number_of_bytes_is_limited():
    """The budget can be used to the last byte, and one more byte waits."""
    slots = NamedSlots(max_images=9, max_bytes=100)
    await slots.acquire("a", 60)
    await slots.acquire("b", 40)
    await slots.acquire("c", 1)
    assert slots.names() == "ab"
    await slots.release("b")
    assert slots.names() == "ac"


async def test_slots_are_granted_in_order():
    """A small image does not overtake a large one, even if the budget has space for it."""
    slots = NamedSlots(max_images=9, max_bytes=100)
    for name, size in [("a", 60), ("b", 80), ("c", 1), ("d", 1)]:
        await slots.acquire(name, size)
    assert slots.names() == "a"
    await slots.release("a")
    assert slots.names() == "bcd"


async def test_an_image_larger_than_the_budget_gets_it_alone():
    """It waits until the budget is unused, and all others wait until its slot is released."""
    slots = NamedSlots(max_images=9, max_bytes=100)
    for name, size in [("a", 1), ("giant", 1000), ("b", 1)]:
        await slots.acquire(name, size)
    assert slots.names() == "a"
    await slots.release("a")
    assert slots.names() == "giant"
    await slots.release("giant")
    assert slots.names() == "b"


async def test_a_corrected_size_counts():
    """If an image is smaller than expected, others get a slot; if it is larger, they wait."""
    slots = NamedSlots(max_images=9, max_bytes=100)
    for name, size in [("a", 90), ("b", 50)]:
        await slots.acquire(name, size)
    slots.held["a"].resize(50)
    await settled()
    assert slots.names() == "ab"
    slots.held["b"].resize(60)
    await slots.release("a")
    await slots.acquire("c", 41)
    assert slots.names() == "b"


async def test_a_slot_is_released_once():
    """Releasing or resizing a slot after its release changes nothing."""
    slots = NamedSlots(max_images=1, max_bytes=100)
    await slots.acquire("a", 1)
    slot = slots.held["a"]
    await slots.release("a")
    await slots.acquire("b", 1)
    await slots.acquire("c", 1)
    slot.release()
    slot.resize(0)
    await settled()
    assert slots.names() == "b"


async def test_the_end_of_a_block_releases_its_slot():
    """A slot in a `with` block is released at its end, even after an error."""
    slots = NamedSlots(max_images=1, max_bytes=100)
    await slots.acquire("a", 1)
    await slots.acquire("b", 1)
    with pytest.raises(RuntimeError), slots.held.pop("a"):
        raise RuntimeError
    await settled()
    assert slots.names() == "b"


async def test_a_cancelled_waiter_is_skipped():
    """A cancelled waiter gets no slot, and the next waiter gets it."""
    slots = NamedSlots(max_images=1, max_bytes=100)
    await slots.acquire("a", 1)
    waiting = await slots.acquire("b", 1)
    await slots.acquire("c", 1)
    waiting.cancel()
    await settled()
    await slots.release("a")
    assert slots.names() == "c"


async def test_a_cancelled_first_waiter_lets_others_continue():
    """Waiters behind a large image get their slots when it is cancelled, without a release."""
    slots = NamedSlots(max_images=9, max_bytes=100)
    await slots.acquire("a", 60)
    waiting = await slots.acquire("large", 80)
    await slots.acquire("b", 40)
    waiting.cancel()
    await settled()
    assert slots.names() == "ab"


async def test_a_waiter_cancelled_when_it_gets_a_slot_releases_it():
    """A waiter that is cancelled just after a slot was granted to it does not keep the slot."""
    slots = NamedSlots(max_images=1, max_bytes=100)
    await slots.acquire("a", 1)
    waiting = await slots.acquire("b", 1)
    await slots.acquire("c", 1)
    slots.held.pop("a").release()
    waiting.cancel()
    await settled()
    assert slots.names() == "c"


images = st.lists(st.tuples(st.integers(0, 120), st.integers(0, 3)), max_size=30)


@given(images=images, cancelled=st.sets(st.integers(0, 29)))
def test_all_waiters_get_a_slot_in_order_and_within_the_limits(images, cancelled):
    """For any sizes and cancellations, limits hold, and no waiter is overtaken or forgotten."""

    async def acquire_all():
        budget, held, granted = MemoryBudget(max_images=3, max_bytes=100), {}, []

        async def hold(number, size, turns):
            with await budget.acquire(size):
                granted.append(number)
                held[number] = size
                assert len(held) == 1 or (len(held) <= 3 and sum(held.values()) <= 100)
                for _ in range(turns):
                    await asyncio.sleep(0)
                del held[number]

        tasks = [asyncio.create_task(hold(i, *images[i])) for i in range(len(images))]
        await asyncio.sleep(0)
        waiting = [i for i in cancelled if i < len(tasks) and i not in granted]
        for number in waiting:
            tasks[number].cancel()
        async with asyncio.timeout(PATIENCE):
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert {i for i, outcome in enumerate(outcomes) if outcome is not None} == set(waiting)
        assert all(earlier < later for earlier, later in pairwise(granted))

    asyncio.run(acquire_all())
