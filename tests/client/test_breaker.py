"""The breaker by itself: what opens it, what closes it, and what is told of it."""

import asyncio

import pytest

from imgcache_scrapy.client.breaker import PROBE_SECONDS, Breaker
from imgcache_scrapy.core.errors import (
    InvalidRequestError,
    NotFoundError,
    ProtocolError,
    TooLargeError,
    UnauthorizedError,
    UnavailableError,
)
from tests.support.waiting import PATIENCE

FAILED = UnavailableError("down")


class Watched:
    """A breaker whose time only passes when `tick` is called; notes what it tells."""

    def __init__(self):
        self.works = False
        self.probes = 0
        self.slept = []
        self.errors = []
        self.warnings = []
        self.closings = 0
        self._tick = asyncio.Event()
        self.breaker = Breaker(
            self._probe, on_failure=self._failed, on_close=self._closed, sleep=self._sleep
        )

    async def call(self, error=None, kind="lookup"):
        """Make a call that fails with this error, and give it back."""

        async def answer():
            if error is not None:
                raise error

        try:
            async with self.breaker.call(kind):
                await answer()
        except Exception as raised:
            return raised
        return None

    async def calls(self, *errors, kind="lookup"):
        """Make calls, one after the other."""
        for error in errors:
            await self.call(error, kind)

    async def tick(self):
        """Let the time to the next probe pass, and the probe with what follows."""
        self._tick.set()
        for _ in range(10):
            await asyncio.sleep(0)

    async def _sleep(self, seconds):
        self.slept.append(seconds)
        await self._tick.wait()
        self._tick.clear()

    async def _probe(self):
        self.probes += 1
        if not self.works:
            raise FAILED

    def _failed(self, error, is_news):
        self.errors.append(error)
        if is_news:
            self.warnings.append(error)

    def _closed(self):
        self.closings += 1


@pytest.fixture
def watched():
    """Watch a breaker."""
    return Watched()


def timed_out():
    """Make the error of a call that took too long, as the roads raise it."""
    error = UnavailableError("no answer in time")
    error.__cause__ = TimeoutError()
    return error


@pytest.mark.parametrize(
    "error", [FAILED, ProtocolError("html"), UnauthorizedError("token"), RuntimeError("bug")]
)
async def test_three_failures_in_a_row_open_it(watched, error):
    """Two are not enough; from then on no call reaches the cache."""
    await watched.calls(error, error)
    assert not watched.breaker.is_open
    assert await watched.call(error) is error
    assert watched.breaker.is_open
    refused = await watched.call()
    assert isinstance(refused, UnavailableError)
    assert "is not called" in str(refused)
    assert watched.errors == [error] * 3


async def test_two_timeouts_open_it(watched):
    """Each of them costs time; a third would cost as much again."""
    await watched.calls(timed_out())
    assert not watched.breaker.is_open
    await watched.calls(timed_out())
    assert watched.breaker.is_open


@pytest.mark.parametrize(
    "error", [NotFoundError("no"), InvalidRequestError("no"), TooLargeError("no")]
)
async def test_what_a_sound_cache_says_never_opens_it(watched, error):
    """A 404, a 413 or a 422 is an answer; it is told, but warns of nothing."""
    await watched.calls(*[error] * 10)
    assert not watched.breaker.is_open
    assert (len(watched.errors), watched.warnings) == (10, [])


async def test_a_success_ends_the_row(watched):
    """Failures now and then open nothing."""
    await watched.calls(*[FAILED, FAILED, None] * 5)
    assert not watched.breaker.is_open


async def test_a_success_of_another_kind_does_not_end_the_row(watched):
    """A catalog that answers lookups says nothing of a storage that hangs."""
    for _ in range(3):
        await watched.call(FAILED, "store")
        await watched.call(None, "lookup")
    assert watched.breaker.is_open


async def test_failures_of_all_kinds_make_one_row(watched):
    """A cache that is gone is gone for lookups and stores together."""
    for kind in ("lookup", "store", "read"):
        assert not watched.breaker.is_open
        await watched.call(FAILED, kind)
    assert watched.breaker.is_open


async def test_calls_under_way_end_when_it_opens(watched):
    """They would wait for their timeouts; they fail at once, and are not told of."""

    async def hangs():
        async with watched.breaker.call("store"):
            await asyncio.Event().wait()

    hanging = [asyncio.create_task(hangs()) for _ in range(5)]
    await asyncio.sleep(0)
    await watched.calls(FAILED, FAILED, FAILED)
    ended = await asyncio.wait_for(asyncio.gather(*hanging, return_exceptions=True), PATIENCE)
    assert [type(error) for error in ended] == [UnavailableError] * 5
    assert len(watched.errors) == 3


async def test_one_probe_at_a_time_closes_it(watched):
    """Each after a pause; after the first that succeeds all is as it was at the beginning."""
    await watched.calls(FAILED, FAILED, FAILED)
    await asyncio.sleep(0)
    for probes in (1, 2, 3):
        await watched.tick()
        assert (watched.probes, watched.breaker.is_open) == (probes, True)
    watched.works = True
    await watched.tick()
    assert not watched.breaker.is_open
    await watched.calls(FAILED, FAILED)
    assert not watched.breaker.is_open
    assert await watched.call() is None
    assert watched.closings == 1
    await watched.tick()
    assert watched.probes == 4
    assert watched.slept == [PROBE_SECONDS] * 4


async def test_each_outage_is_warned_of_once(watched):
    """By its first failure; after it is over, by the next one's."""
    for outage in (1, 2, 3):
        watched.works = False
        await watched.calls(*[FAILED] * 10)
        await asyncio.sleep(0)
        await watched.tick()
        assert len(watched.warnings) == outage
        watched.works = True
        await watched.tick()
        assert not watched.breaker.is_open
    assert watched.closings == 3


async def test_failures_that_open_nothing_are_warned_of_once(watched):
    """However many there are; but an outage that follows is news again."""
    await watched.calls(*[FAILED, None] * 5)
    assert len(watched.warnings) == 1
    await watched.calls(FAILED, FAILED, FAILED)
    assert len(watched.warnings) == 2


async def test_an_outage_is_warned_of_once_though_earlier_calls_still_succeed(watched):
    """What was under way when it began, and ends well, does not make two outages of it."""
    go_on = asyncio.Event()

    async def slow():
        async with watched.breaker.call("lookup"):
            await go_on.wait()

    earlier = asyncio.create_task(slow())
    await asyncio.sleep(0)
    await watched.calls(FAILED)
    go_on.set()
    await earlier
    await watched.calls(FAILED, FAILED, FAILED)
    assert watched.breaker.is_open
    assert len(watched.warnings) == 1


async def test_closing_ends_the_probes(watched):
    """Nothing is left running, open or not."""
    await watched.calls(FAILED, FAILED, FAILED)
    await watched.breaker.aclose()
    assert asyncio.all_tasks() == {asyncio.current_task()}
