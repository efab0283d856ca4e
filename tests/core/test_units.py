"""Sizes and times as people write them."""

from datetime import timedelta

import pytest

from imgcache_scrapy import InvalidRequestError
from imgcache_scrapy.core.units import checked_days, checked_size


def test_sizes():
    """Numbers count bytes; prefixes are decimal, those with an i binary."""
    expected = {
        5: 5, "5": 5, "10B": 10, "1k": 1000, "1.5 kB": 1500, "10GB": 10**10, "2GiB": 2 * 2**30,
        "1t": 10**12, "1TiB": 2**40, "0": 0,
    }  # fmt: skip
    assert {size: checked_size(size) for size in expected} == expected


def test_times():
    """Times are whole days."""
    assert [checked_days(time).days for time in ("90d", "4w", "1y", "0d")] == [90, 28, 365, 0]
    assert checked_days("2d") == timedelta(days=2)


@pytest.mark.parametrize("size", ["", "GB", "-1", "1PB", "1e9", "9" * 30, "1.", "ten"])
def test_wrong_sizes_are_refused(size):
    """The error shows what a size looks like."""
    with pytest.raises(InvalidRequestError, match="500MB"):
        checked_size(size)


@pytest.mark.parametrize("time", ["", "90", "d", "1h", "-1d", "1.5y", "9999999d"])
def test_wrong_times_are_refused(time):
    """The error shows what a time looks like."""
    with pytest.raises(InvalidRequestError, match="90d"):
        checked_days(time)
