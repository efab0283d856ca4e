"""Throttle: slows down those who guess the token, with bounded memory."""

import time
from collections import OrderedDict
from collections.abc import Callable
from ipaddress import IPv6Address, ip_address
from typing import NamedTuple, TypeVar

_Value = TypeVar("_Value")

_MAX_ADDRESSES = 10_000
# After this time without a guess, an address begins anew.
_FORGET_SECONDS = 3600.0
# One person has all addresses of such a network.
_IPV6_PREFIX = 64


class _Failures(NamedTuple):
    guesses: int
    at: float
    blocked_until: float


class Throttle:
    """Decides how long an address must wait after wrong guesses.

    Each further wrong guess of an address doubles its wait, up to a maximum. Many wrong guesses
    from all addresses together make every address wait, except those that gave the right token
    within the last hour. Each process of a service counts for itself.

    Args:
        free: the number of wrong guesses of one address before it must wait.
        free_together: the number of wrong guesses of all addresses before all must wait.
        interval: the seconds after which one more guess is free for all together.
        max_wait: the longest wait of an address that guesses, in seconds.
        clock: returns the time in seconds.
    """

    def __init__(
        self,
        free: int,
        free_together: int,
        interval: float,
        max_wait: float = 300,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._free = free
        self._free_together = free_together
        self._interval = interval
        self._max_wait = max_wait
        self._clock = clock
        # The address that was noted last is the last.
        self._failures: OrderedDict[str, _Failures] = OrderedDict()
        self._successes: OrderedDict[str, float] = OrderedDict()
        self._together = 0.0
        self._together_at = clock()

    def seconds_to_wait(self, address: str) -> float:
        """Return how long an address must wait before its next guess is looked at."""
        now, who = self._clock(), _network(address)
        failures = self._failures.get(who)
        own = 0.0 if failures is None else failures.blocked_until - now
        if self._successes.get(who, float("-inf")) > now - _FORGET_SECONDS:
            return max(0.0, own)
        return max(0.0, own, (self._guesses_together(now) - self._free_together) * self._interval)

    def note_failure(self, address: str) -> None:
        """Count a wrong guess."""
        now, who = self._clock(), _network(address)
        self._together, self._together_at = self._guesses_together(now) + 1, now
        last = self._failures.get(who)
        is_new = last is None or now - last.at > _FORGET_SECONDS
        guesses = 1 if is_new or last is None else last.guesses + 1
        wait = (
            0.0
            if guesses < self._free
            else min(2.0 ** min(guesses - self._free, 32), self._max_wait)
        )
        _put(self._failures, who, _Failures(guesses, now, now + wait))

    def note_success(self, address: str) -> None:
        """Forget the wrong guesses of an address that gave the right token."""
        who = _network(address)
        self._failures.pop(who, None)
        _put(self._successes, who, self._clock())

    def _guesses_together(self, now: float) -> float:
        return max(0.0, self._together - (now - self._together_at) / self._interval)


def _put(table: OrderedDict[str, _Value], key: str, value: _Value) -> None:
    table[key] = value
    table.move_to_end(key)
    if len(table) > _MAX_ADDRESSES:
        table.popitem(last=False)


def _network(address: str) -> str:
    """Return what counts as one address: itself, or the network of an IPv6 address."""
    if ":" not in address:
        return address
    try:
        found = ip_address(address)
    except ValueError:
        return address
    if not isinstance(found, IPv6Address):
        return address
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(int(found) >> (found.max_prefixlen - _IPV6_PREFIX))
