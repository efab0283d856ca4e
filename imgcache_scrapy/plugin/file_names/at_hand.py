"""OutcomesAtHand: the last outcomes of a crawl, for items that show the same picture again."""

from collections import OrderedDict

from scrapy import Request
from scrapy.exceptions import IgnoreRequest

from imgcache_scrapy.plugin.outcome import ImageFailed, Outcome

MAX_OUTCOMES = 2_000
MAX_BYTES = 2**24


class OutcomesAtHand:
    """Keeps the last outcomes with their bytes, within limits.

    Args:
        max_outcomes: number of outcomes to keep.
        max_bytes: bytes of all bodies to keep; an outcome with a larger body is not kept.
    """

    def __init__(self, max_outcomes: int = MAX_OUTCOMES, max_bytes: int = MAX_BYTES) -> None:
        self._max_outcomes = max_outcomes
        self._max_bytes = max_bytes
        self._size = 0
        self._kept: OrderedDict[bytes, Outcome] = OrderedDict()

    def get(self, key: bytes, request: Request) -> Outcome | None:
        """Return the outcome of a key with a copy of its response; None if it is not at hand.

        Args:
            key: the key of the outcome.
            request: the request that the response will answer.

        Raises:
            ImageFailed: there was no response; it is not asked for again in this crawl.
            IgnoreRequest: the request was filtered.
        """
        outcome = self._kept.get(key)
        if outcome is None:
            return None
        self._kept.move_to_end(key)
        if outcome.response is None:
            assert outcome.error is not None  # noqa: S101 - see `put`
            if outcome.error.reason == "filtered":  # Scrapy tells this at the level DEBUG.
                raise IgnoreRequest(str(outcome.error))
            raise ImageFailed.of(outcome.error)
        # Nothing was downloaded for this item. The flag tells Scrapy.
        flags = [*outcome.response.flags, "cached"]
        response = outcome.response.replace(flags=flags, request=request)
        return outcome._replace(response=response)

    def put(self, key: bytes, outcome: Outcome) -> None:
        """Keep an outcome that has a response or an error."""
        self._drop(key)
        size = _size(outcome)
        if size > self._max_bytes:
            return
        self._kept[key] = outcome
        self._size += size
        while self._size > self._max_bytes or len(self._kept) > self._max_outcomes:
            self._drop(next(iter(self._kept)))

    def _drop(self, key: bytes) -> None:
        dropped = self._kept.pop(key, None)
        if dropped is not None:
            self._size -= _size(dropped)


def _size(outcome: Outcome) -> int:
    return 0 if outcome.response is None else len(outcome.response.body)
