"""Reservation: what one image holds while it is fetched and stored."""

import asyncio
from contextlib import contextmanager

import pytest

from imgcache_scrapy.plugin.memory import MemoryBudget
from imgcache_scrapy.plugin.reservation import KeyLocks, Reservation
from tests.support.waiting import settled


class Downloads:
    """Counts the downloads that delay further pages."""

    def __init__(self):
        self.active = 0
        self._budget = MemoryBudget(max_images=1)

    @contextmanager
    def _counted(self):
        self.active += 1
        yield
        self.active -= 1

    def reservation(self):
        return Reservation(KeyLocks(), self._budget, None, self._counted)


@pytest.fixture
def downloads():
    return Downloads()


async def test_a_stored_image_delays_no_page(downloads):
    """A download ends when its body has arrived; its memory is in use until it is stored."""
    first, second = downloads.reservation(), downloads.reservation()
    await first.acquire_slot()
    assert downloads.active == 1
    first.body_arrived(10)
    assert downloads.active == 0
    waiting = asyncio.create_task(second.acquire_slot())
    await settled()
    assert (waiting.done(), downloads.active) == (False, 1)
    first.release()
    await waiting
    second.release()
    assert downloads.active == 0


async def test_a_download_that_fails_delays_no_page(downloads):
    """Without a body, the download ends with the reservation."""
    with downloads.reservation() as reservation:
        await reservation.acquire_slot()
        assert downloads.active == 1
    assert downloads.active == 0
