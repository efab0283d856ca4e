"""SingleFlight: the work for one key is done once."""

import asyncio

import pytest

from imgcache_scrapy.core.concurrency import SingleFlight
from tests.support.waiting import settled


class Maker:
    """Makes numbered outcomes, while `open` is set."""

    def __init__(self):
        self.made = 0
        self.open = asyncio.Event()

    async def __call__(self):
        self.made += 1
        number = self.made
        await self.open.wait()
        return number


async def test_a_thing_is_done_flight_for_all_who_ask():
    """Those who come meanwhile and those who come later share the outcome of the first."""
    flight, make = SingleFlight(max_results=10), Maker()
    meanwhile = [asyncio.create_task(flight.do_all([("key", make)] * 2)) for _ in range(5)]
    await settled()
    make.open.set()
    assert await asyncio.gather(*meanwhile) == [[1, 1]] * 5
    assert await flight.do_all([("other", make), ("key", make)]) == [2, 1]


async def test_things_are_done_at_the_same_time():
    """A slow one does not keep those that are asked for with it from beginning."""
    flight, slow, quick = SingleFlight(max_results=10), Maker(), Maker()
    both = asyncio.create_task(flight.do_all([("slow", slow), ("quick", quick)]))
    await settled()
    assert (slow.made, quick.made) == (1, 1)
    slow.open.set()
    quick.open.set()
    assert await both == [1, 1]


async def test_a_thing_goes_on_without_whoever_asked_first():
    """The first asker's cancellation ends its waiting and nothing else."""
    flight, make = SingleFlight(max_results=10), Maker()
    first, second = (asyncio.create_task(flight.do_all([("key", make)])) for _ in range(2))
    await settled()
    first.cancel()
    await settled()
    make.open.set()
    assert await second == [1]
    assert first.cancelled()
    assert make.made == 1


async def test_what_was_raised_is_raised_and_the_thing_tried_again():
    """Who asks meanwhile hears of it too; who asks later has it done anew."""
    flight, tries = SingleFlight(max_results=10), []

    async def fail():
        tries.append(1)
        raise RuntimeError("broken")

    for _ in range(2):
        with pytest.raises(RuntimeError, match="broken"):
            await flight.do_all([("key", fail), ("key", fail)])
    assert tries == [1, 1]


async def test_only_so_many_outcomes_are_remembered():
    """Beyond the bound it is the outcome used longest ago that is forgotten."""
    flight, make = SingleFlight(max_results=2), Maker()
    make.open.set()
    for key in ("a", "b", "a", "c"):
        await flight.do_all([(key, make)])
    assert make.made == 3
    assert await flight.do_all([("a", make), ("c", make)]) == [1, 3]
    assert await flight.do_all([("b", make)]) == [4]


async def test_more_can_be_asked_for_than_is_remembered():
    """Everything asked for at flight has its outcome, in its place."""
    flight, make = SingleFlight(max_results=2), Maker()
    make.open.set()
    assert await flight.do_all([(key, make) for key in range(10)]) == list(range(1, 11))


async def test_what_is_under_way_is_never_forgotten():
    """A slow thing is done flight, however many others come and go meanwhile."""
    flight, slow, quick = SingleFlight(max_results=2), Maker(), Maker()
    quick.open.set()
    first = asyncio.create_task(flight.do_all([("slow", slow)]))
    for key in range(10):
        await flight.do_all([(key, quick)])
    again = asyncio.create_task(flight.do_all([("slow", slow)]))
    await settled()
    slow.open.set()
    assert await asyncio.gather(first, again) == [[1], [1]]
