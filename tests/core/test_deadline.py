"""The timeout: it ends what takes too long, and does not count the time of a loop that stands."""

import asyncio
import gc
import threading
import time
from weakref import ref

import pytest

from imgcache_scrapy.core.deadline import timeout
from tests.support.waiting import PATIENCE, run_without_waiting


async def block(turns, seconds):
    """Block the event loop in each of its next turns, as a hook of a user does."""
    for _ in range(turns):
        stand_still(seconds)
        await asyncio.sleep(0)


def stand_still(seconds):
    time.sleep(seconds)


def test_it_ends_what_takes_too_long():
    """At the exact time if the loop is not blocked."""

    async def main():
        loop = asyncio.get_running_loop()
        with pytest.raises(TimeoutError):
            async with timeout(3):
                await asyncio.sleep(PATIENCE)
        return loop.time()

    assert run_without_waiting(main()) == pytest.approx(3, abs=0.1)


async def test_a_blocked_loop_does_not_count():
    """The block takes ten turns of a loop that is blocked in each for longer than the limit."""
    blocking = asyncio.create_task(block(10, 0.3))
    async with timeout(0.25):
        await asyncio.wait([blocking])


async def test_an_answer_that_arrived_while_the_loop_was_blocked_is_in_time():
    """It came from another thread after half of the time; the loop stood still for much longer."""
    loop, answer = asyncio.get_running_loop(), asyncio.get_running_loop().create_future()
    threading.Timer(0.5, lambda: loop.call_soon_threadsafe(answer.set_result, 1)).start()
    async with timeout(1):
        await asyncio.sleep(0)
        stand_still(3)
        assert await answer == 1


async def test_what_never_ends_is_ended_although_the_loop_was_blocked():
    """The time of the stall is added, and no more."""

    async def blocked_for_ever():
        async with timeout(0.2):
            await block(2, 0.3)
            await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        await blocked_for_ever()


async def test_without_a_limit_nothing_is_measured():
    """None means no limit."""
    async with timeout(None):
        await asyncio.sleep(0)


async def test_the_callers_cancellation_stays_a_cancellation():
    """It is no timeout."""

    async def waits():
        async with timeout(PATIENCE):
            await asyncio.Event().wait()

    task = asyncio.create_task(waits())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_no_loop_is_kept_alive():
    """After its last timeout."""

    async def main():
        async with timeout(PATIENCE):
            await asyncio.sleep(0)
        return ref(asyncio.get_running_loop())

    loop = asyncio.run(main())
    gc.collect()
    assert loop() is None
