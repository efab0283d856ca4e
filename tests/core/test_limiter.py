"""Limiter: how many calls run at the same time, and how long each may take."""

import asyncio
from functools import partial

from imgcache_scrapy.core.concurrency import Limiter
from imgcache_scrapy.core.errors import UnavailableError
from tests.support.waiting import run_without_waiting, settled


def test_calls_wait_for_their_turn_without_timing_out():
    """The time of a call begins with its turn, and one that takes too long is told so."""
    run_without_waiting(calls_in_turn())


async def calls_in_turn():
    limiter = Limiter(1, 0.2)
    started = []

    async def call(seconds):
        started.append(seconds)
        await asyncio.sleep(seconds)
        return seconds

    waits = [limiter.run(partial(call, seconds)) for seconds in (0.15, 0.15, 5, 0.15)]
    answers = await asyncio.gather(*waits, return_exceptions=True)
    assert started == [0.15, 0.15, 5, 0.15]
    assert [answers[0], answers[1], answers[3]] == [0.15] * 3
    assert isinstance(answers[2], UnavailableError)


async def test_finishing_waits_for_the_calls_under_way():
    """What was begun is over when it returns."""
    limiter, ended = Limiter(2, None), []

    async def call():
        await settled()
        ended.append(True)

    tasks = [asyncio.create_task(limiter.run(call)) for _ in range(5)]
    await asyncio.sleep(0)
    await limiter.finish()
    assert len(ended) == 5
    await asyncio.gather(*tasks)
