"""The circuit breaker: what opens it, what closes it, and what it reports."""

import asyncio

import pytest

from imgcache_scrapy.client.breaker import PROBE_SECONDS, Breaker
from imgcache_scrapy.core.errors import (
    InvalidRequestError,
    NotFoundError,
    ProtocolError,
    StoreFailedError,
    TooLargeError,
    UnauthorizedError,
    UnavailableError,
)
from tests.support.waiting import PATIENCE

FAILED = UnavailableError("down")


class RecordedBreaker:
    """A breaker that records its reports; its time passes only when `tick` is called."""

    def __init__(self):
        self.is_up = False
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
        """Make a call that raises this error, and return the error that the caller gets."""

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
        """Let the time to the next probe pass, and run the probe."""
        self._tick.set()
        for _ in range(10):
            await asyncio.sleep(0)

    async def _sleep(self, seconds):
        self.slept.append(seconds)
        await self._tick.wait()
        self._tick.clear()

    async def _probe(self):
        self.probes += 1
        if not self.is_up:
            raise FAILED

    def _failed(self, error, is_news):
        self.errors.append(error)
        if is_news:
            self.warnings.append(error)

    def _closed(self):
        self.closings += 1


@pytest.fixture
def recorded():
    """Return a breaker that records its reports."""
    return RecordedBreaker()


def timeout_error():
    """Return the error of a call that timed out, as the transports raise it."""
    error = UnavailableError("no answer in time")
    error.__cause__ = TimeoutError()
    return error


@pytest.mark.parametrize(
    "error", [FAILED, ProtocolError("html"), UnauthorizedError("token"), RuntimeError("bug")]
)
async def test_three_failures_in_a_row_open_the_breaker(recorded, error):
    """Two failures do not open it; after the third no call reaches the cache."""
    await recorded.calls(error, error)
    assert not recorded.breaker.is_open
    assert await recorded.call(error) is error
    assert recorded.breaker.is_open
    refused = await recorded.call()
    assert isinstance(refused, UnavailableError)
    assert "is not called" in str(refused)
    assert recorded.errors == [error] * 3


async def test_two_timeouts_open_the_breaker(recorded):
    """Two timeouts are enough, because each of them takes a long time."""
    await recorded.calls(timeout_error())
    assert not recorded.breaker.is_open
    await recorded.calls(timeout_error())
    assert recorded.breaker.is_open


@pytest.mark.parametrize(
    "error", [NotFoundError("no"), InvalidRequestError("no"), TooLargeError("no")]
)
async def test_refusals_never_open_the_breaker(recorded, error):
    """Errors for 404, 413 and 422 are reported, and cause neither a warning nor an opening."""
    await recorded.calls(*[error] * 10)
    assert not recorded.breaker.is_open
    assert (len(recorded.errors), recorded.warnings) == (10, [])


async def test_a_failure_of_a_batch_counts_once(recorded):
    """Sixteen calls that fail together with one error are one failure; three of these open it."""
    for number in range(3):
        assert not recorded.breaker.is_open
        go_on, error = asyncio.Event(), UnavailableError(f"batch {number}")

        async def fail(go_on=go_on, error=error):
            async with recorded.breaker.call("store"):
                await go_on.wait()
                raise error

        calls = [asyncio.create_task(fail()) for _ in range(16)]
        await asyncio.sleep(0)
        go_on.set()
        assert set(await asyncio.gather(*calls, return_exceptions=True)) == {error}
        assert len(recorded.errors) == 16 * (number + 1)
    assert recorded.breaker.is_open


async def test_the_trouble_of_single_images_never_opens_the_breaker(recorded):
    """Images that a working cache cannot store cause one warning, and end no streak of failures."""
    errors = [StoreFailedError(f"image {number}") for number in range(10)]
    await recorded.calls(*errors)
    assert not recorded.breaker.is_open
    assert (recorded.errors, recorded.warnings) == (errors, errors[:1])
    await recorded.calls(FAILED, FAILED, errors[0], FAILED)
    assert recorded.breaker.is_open


async def test_a_success_resets_the_count(recorded):
    """Single failures between successes do not open the breaker."""
    await recorded.calls(*[FAILED, FAILED, None] * 5)
    assert not recorded.breaker.is_open


async def test_a_success_of_another_kind_does_not_reset_the_count(recorded):
    """A successful lookup does not show that stores work."""
    for _ in range(3):
        await recorded.call(FAILED, "store")
        await recorded.call(None, "lookup")
    assert recorded.breaker.is_open


async def test_failures_of_all_kinds_are_counted_together(recorded):
    """A failed lookup, a failed store and a failed read together open the breaker."""
    for kind in ("lookup", "store", "read"):
        assert not recorded.breaker.is_open
        await recorded.call(FAILED, kind)
    assert recorded.breaker.is_open


async def test_running_calls_end_when_the_breaker_opens(recorded):
    """Running calls fail at once when the breaker opens, and are not reported."""

    async def call_without_end():
        async with recorded.breaker.call("store"):
            await asyncio.Event().wait()

    tasks = [asyncio.create_task(call_without_end()) for _ in range(5)]
    await asyncio.sleep(0)
    await recorded.calls(FAILED, FAILED, FAILED)
    results = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), PATIENCE)
    assert [type(error) for error in results] == [UnavailableError] * 5
    assert len(recorded.errors) == 3


async def test_a_successful_probe_closes_the_breaker(recorded):
    """Probes run one at a time, each after a pause; the first success resets the breaker."""
    await recorded.calls(FAILED, FAILED, FAILED)
    await asyncio.sleep(0)
    for probes in (1, 2, 3):
        await recorded.tick()
        assert (recorded.probes, recorded.breaker.is_open) == (probes, True)
    recorded.is_up = True
    await recorded.tick()
    assert not recorded.breaker.is_open
    await recorded.calls(FAILED, FAILED)
    assert not recorded.breaker.is_open
    assert await recorded.call() is None
    assert recorded.closings == 1
    await recorded.tick()
    assert recorded.probes == 4
    assert recorded.slept == [PROBE_SECONDS] * 4


async def test_each_outage_causes_one_warning(recorded):
    """Only the first failure of each outage causes a warning."""
    for outage in (1, 2, 3):
        recorded.is_up = False
        await recorded.calls(*[FAILED] * 10)
        await asyncio.sleep(0)
        await recorded.tick()
        assert len(recorded.warnings) == outage
        recorded.is_up = True
        await recorded.tick()
        assert not recorded.breaker.is_open
    assert recorded.closings == 3


async def test_failures_without_an_outage_cause_one_warning(recorded):
    """Single failures cause one warning, and a following outage causes another one."""
    await recorded.calls(*[FAILED, None] * 5)
    assert len(recorded.warnings) == 1
    await recorded.calls(FAILED, FAILED, FAILED)
    assert len(recorded.warnings) == 2


async def test_a_late_success_does_not_cause_a_second_warning(recorded):
    """A call that began before an outage and succeeds during it does not repeat the warning."""
    go_on = asyncio.Event()

    async def slow():
        async with recorded.breaker.call("lookup"):
            await go_on.wait()

    earlier = asyncio.create_task(slow())
    await asyncio.sleep(0)
    await recorded.calls(FAILED)
    go_on.set()
    await earlier
    await recorded.calls(FAILED, FAILED, FAILED)
    assert recorded.breaker.is_open
    assert len(recorded.warnings) == 1


async def test_closing_ends_the_probes(recorded):
    """After the close no task is left."""
    await recorded.calls(FAILED, FAILED, FAILED)
    await recorded.breaker.aclose()
    assert asyncio.all_tasks() == {asyncio.current_task()}
