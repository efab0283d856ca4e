"""MemoryBudget: how many bodies are in memory at the same time."""

import asyncio
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgcache_scrapy.plugin.memory import MemoryBudget
from tests.support.waiting import PATIENCE, settled


class Guests:
    """Whoever enters a room, in order; each task stays until its place is left from outside."""

    def __init__(self, **limits):
        self.budget = MemoryBudget(**limits)
        self.inside = {}

    async def arrive(self, name, size):
        task = asyncio.create_task(self._enter(name, size))
        await settled()
        return task

    async def _enter(self, name, size):
        self.inside[name] = await self.budget.acquire(size)

    async def leave(self, name):
        self.inside.pop(name).release()
        await settled()

    def names(self):
        return "".join(self.inside)


async def test_who_enters_at_once_finds_no_budget_full():
    """Who holds a place must not wait for another; what it brings counts all the same."""
    budget = MemoryBudget(max_images=1, max_bytes=10)
    first = await budget.acquire(10)
    second = await budget.acquire(10, waits=False)
    waiting = asyncio.create_task(budget.acquire(1))
    first.release()
    await settled()
    assert not waiting.done()
    second.release()
    (await waiting).release()


async def test_a_budget_holds_so_many():
    """One more than the count waits until somebody leaves."""
    guests = Guests(max_images=2, max_bytes=100)
    for name in "abc":
        await guests.arrive(name, 1)
    assert guests.names() == "ab"
    await guests.leave("a")
    assert guests.names() == "bc"


async def test_a_budget_holds_so_many_bytes():
    """It may be filled to the last byte, and one byte more waits."""
    guests = Guests(max_images=9, max_bytes=100)
    await guests.arrive("a", 60)
    await guests.arrive("b", 40)
    await guests.arrive("c", 1)
    assert guests.names() == "ab"
    await guests.leave("b")
    assert guests.names() == "ac"


async def test_those_who_wait_enter_in_the_order_they_came():
    """A small one does not overtake a large one, however much budget there is for it."""
    guests = Guests(max_images=9, max_bytes=100)
    for name, size in [("a", 60), ("b", 80), ("c", 1), ("d", 1)]:
        await guests.arrive(name, size)
    assert guests.names() == "a"
    await guests.leave("a")
    assert guests.names() == "bcd"


async def test_one_larger_than_the_budget_enters_alone():
    """It waits until the budget is empty, and all others wait until it is released."""
    guests = Guests(max_images=9, max_bytes=100)
    for name, size in [("a", 1), ("giant", 1000), ("b", 1)]:
        await guests.arrive(name, size)
    assert guests.names() == "a"
    await guests.leave("a")
    assert guests.names() == "giant"
    await guests.leave("giant")
    assert guests.names() == "b"


async def test_a_corrected_size_counts():
    """Fewer bytes than expected let others in, more keep them out."""
    guests = Guests(max_images=9, max_bytes=100)
    for name, size in [("a", 90), ("b", 50)]:
        await guests.arrive(name, size)
    guests.inside["a"].resize(50)
    await settled()
    assert guests.names() == "ab"
    guests.inside["b"].resize(60)
    await guests.leave("a")
    await guests.arrive("c", 41)
    assert guests.names() == "b"


async def test_a_place_is_left_once():
    """Leaving again, or correcting the size of a place already left, changes nothing."""
    guests = Guests(max_images=1, max_bytes=100)
    await guests.arrive("a", 1)
    place = guests.inside["a"]
    await guests.leave("a")
    await guests.arrive("b", 1)
    await guests.arrive("c", 1)
    place.release()
    place.resize(0)
    await settled()
    assert guests.names() == "b"


async def test_a_block_leaves_its_place():
    """A place used in a `with` block is left at its end, even by an error."""
    guests = Guests(max_images=1, max_bytes=100)
    await guests.arrive("a", 1)
    await guests.arrive("b", 1)
    with pytest.raises(RuntimeError), guests.inside.pop("a"):
        raise RuntimeError
    await settled()
    assert guests.names() == "b"


async def test_who_gives_up_in_line_is_passed_over():
    """A cancelled waiter never enters, and the turn goes to the next."""
    guests = Guests(max_images=1, max_bytes=100)
    await guests.arrive("a", 1)
    waiting = await guests.arrive("b", 1)
    await guests.arrive("c", 1)
    waiting.cancel()
    await settled()
    await guests.leave("a")
    assert guests.names() == "c"


async def test_who_gives_up_at_the_head_of_the_line_lets_the_others_in():
    """Those who only waited behind a large one enter when it gives up, not when somebody leaves."""
    guests = Guests(max_images=9, max_bytes=100)
    await guests.arrive("a", 60)
    waiting = await guests.arrive("large", 80)
    await guests.arrive("b", 40)
    waiting.cancel()
    await settled()
    assert guests.names() == "ab"


async def test_who_gives_up_with_the_turn_in_hand_gives_it_on():
    """A waiter that is let in and cancelled in the same moment does not keep its place."""
    guests = Guests(max_images=1, max_bytes=100)
    await guests.arrive("a", 1)
    waiting = await guests.arrive("b", 1)
    await guests.arrive("c", 1)
    guests.inside.pop("a").release()
    waiting.cancel()
    await settled()
    assert guests.names() == "c"


visits = st.lists(st.tuples(st.integers(0, 120), st.integers(0, 3)), max_size=30)


@given(visits=visits, gone=st.sets(st.integers(0, 29)))
def test_everybody_gets_in_within_the_bounds_and_in_order(visits, gone):
    """Whatever the sizes and cancellations: bounds hold, nobody overtakes or is forgotten."""

    async def crowd():
        budget, inside, entered = MemoryBudget(max_images=3, max_bytes=100), {}, []

        async def visit(number, size, stay):
            with await budget.acquire(size):
                entered.append(number)
                inside[number] = size
                assert len(inside) == 1 or (len(inside) <= 3 and sum(inside.values()) <= 100)
                for _ in range(stay):
                    await asyncio.sleep(0)
                del inside[number]

        tasks = [asyncio.create_task(visit(i, *visits[i])) for i in range(len(visits))]
        await asyncio.sleep(0)
        leaving = [i for i in gone if i < len(tasks) and i not in entered]
        for number in leaving:
            tasks[number].cancel()
        async with asyncio.timeout(PATIENCE):
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert {i for i, outcome in enumerate(outcomes) if outcome is not None} == set(leaving)
        assert all(earlier < later for earlier, later in pairwise(entered))

    asyncio.run(crowd())
