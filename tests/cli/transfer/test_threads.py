"""Threads of imports and exports: nothing is closed while one runs."""

import asyncio
import threading

import pytest

from imgcache_scrapy.cli.transfer.threads import to_end


def test_a_cancelled_caller_waits_for_its_thread():
    """What the thread uses may be closed as soon as the caller goes on, also if it is cancelled."""
    began, may_end, ended = threading.Event(), threading.Event(), []

    def work():
        began.set()
        may_end.wait()
        ended.append(True)

    async def cancel_twice():
        task = asyncio.create_task(to_end(work))
        await asyncio.to_thread(began.wait)
        for _ in range(2):
            task.cancel()
            await asyncio.sleep(0)
        is_waiting = not task.done()
        may_end.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        return is_waiting, ended

    assert asyncio.run(cancel_twice()) == (True, [True])


def test_the_result_and_the_error_are_those_of_the_function():
    """A call is the same as without a thread."""
    assert asyncio.run(to_end(divmod, 7, 2)) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        asyncio.run(to_end(divmod, 7, 0))
