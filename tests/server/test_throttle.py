"""The throttle of wrong tokens, with a clock of the test's own."""

import pytest

from imgcache_scrapy.server import throttle as module
from imgcache_scrapy.server.throttle import Throttle


class Clock:
    """A clock that stands still until it is set.

    Attributes:
        now: the time in seconds.
    """

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def test_the_wait_doubles_up_to_five_minutes(clock):
    """The first guesses are free; each further one doubles the wait, which has an upper bound."""
    throttle = Throttle(5, 1000, 1, clock=clock)
    waits = []
    for _ in range(20):
        throttle.note_failure("1.2.3.4")
        waits.append(throttle.seconds_to_wait("1.2.3.4"))
    assert waits[:9] == [0, 0, 0, 0, 1, 2, 4, 8, 16]
    assert waits[-1] == 300
    assert throttle.seconds_to_wait("1.2.3.5") == 0


def test_a_wait_ends(clock):
    """After its wait, an address has one guess; after an hour without any, it begins anew."""
    throttle = Throttle(1, 1000, 1, clock=clock)
    throttle.note_failure("a")
    assert throttle.seconds_to_wait("a") == 1
    clock.now += 1
    assert throttle.seconds_to_wait("a") == 0
    throttle.note_failure("a")
    assert throttle.seconds_to_wait("a") == 2
    clock.now += 3601
    throttle.note_failure("a")
    assert throttle.seconds_to_wait("a") == 1


def test_guesses_of_many_addresses_count_together(clock):
    """Many addresses that guess once each make all wait, but not who gave the right token."""
    throttle = Throttle(5, 50, 2, clock=clock)
    throttle.note_success("good")
    for number in range(60):
        throttle.note_failure(f"10.0.0.{number}")
    assert throttle.seconds_to_wait("192.0.2.1") == 20
    assert throttle.seconds_to_wait("good") == 0
    clock.now += 20
    assert throttle.seconds_to_wait("192.0.2.1") == 0
    clock.now += 3600
    assert throttle.seconds_to_wait("192.0.2.1") == 0
    for _ in range(70):
        throttle.note_failure("192.0.2.9")
    # Its right token was too long ago.
    assert throttle.seconds_to_wait("good") > 0


def test_the_right_token_forgets_wrong_ones(clock):
    """A person who errs and then gives the right token does not wait the next time."""
    throttle = Throttle(5, 1000, 1, clock=clock)
    for _ in range(4):
        throttle.note_failure("a")
    throttle.note_success("a")
    throttle.note_failure("a")
    assert throttle.seconds_to_wait("a") == 0


def test_an_ipv6_network_is_one_address(clock):
    """All addresses of a /64 count as one, and an IPv4 address in IPv6 as itself."""
    throttle = Throttle(1, 1000, 1, clock=clock)
    throttle.note_failure("2001:db8::1")
    assert throttle.seconds_to_wait("2001:db8::ffff:1") == 1
    assert throttle.seconds_to_wait("2001:db8:0:1::1") == 0
    throttle.note_failure("::ffff:192.0.2.7")
    assert throttle.seconds_to_wait("::ffff:192.0.2.8") == 0
    assert throttle.seconds_to_wait("192.0.2.7") == 1
    for odd in ("", "not:an:address", "fe80::1%eth0"):
        throttle.note_failure(odd)
        assert throttle.seconds_to_wait(odd) == 1


def test_memory_is_bounded(clock, monkeypatch):
    """However many addresses guess, the tables have an upper bound."""
    monkeypatch.setattr(module, "_MAX_ADDRESSES", 100)
    throttle = Throttle(1, 10**6, 1, clock=clock)
    for number in range(1000):
        throttle.note_failure(str(number))
        throttle.note_success(f"s{number}")
    assert len(throttle._failures) <= 100
    assert len(throttle._successes) <= 100
    assert throttle.seconds_to_wait("999") == 1
