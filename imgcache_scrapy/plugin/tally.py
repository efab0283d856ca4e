"""Tally: the stats of a crawl; counts each image URL once and writes the summary line."""

from collections import Counter, OrderedDict
from typing import TYPE_CHECKING
from weakref import ref

from imgcache_scrapy.plugin.outcome import Fate, Outcome
from imgcache_scrapy.plugin.recent import REMEMBERED_KEYS, RecentKeys

if TYPE_CHECKING:
    from scrapy.crawler import Crawler

MAX_UNDECIDED = 5_000
"""Maximum number of URLs whose fate is not final, about 600 bytes each."""
_RARE_FATES: tuple[Fate, ...] = ("revalidated", "spooled")


class Tally:
    """Counts the fates of a crawl's images.

    Args:
        crawler: the crawler of the crawl; only a weak reference to it is kept.
    """

    def __init__(self, crawler: "Crawler") -> None:
        self._crawler = ref(crawler)
        self._counted = RecentKeys[None](minimum=REMEMBERED_KEYS)
        self._looked_up = RecentKeys[None](minimum=REMEMBERED_KEYS)
        self._undecided: OrderedDict[int, Outcome] = OrderedDict()
        self._fates: Counter[Fate] = Counter()
        self._reasons: Counter[str] = Counter()
        self._fetched = self._fetched_bytes = self._saved_bytes = 0

    def inc(self, name: str, count: int = 1) -> None:
        """Add to the stat `imgcache/{name}`."""
        crawler = self._crawler()
        if crawler is not None:
            crawler.stats.inc_value(f"imgcache/{name}", count)

    def count(self, key: str, outcome: Outcome) -> None:
        """Count the fate of an image URL once in a crawl; only its first outcome counts.

        If more than `REMEMBERED_KEYS` other URLs come in between, a URL may be counted again.

        Args:
            key: the cache key of the URL.
            outcome: the outcome of the URL.
        """
        self._undecided.pop(hash(key), None)
        self._count(hash(key), outcome)

    def count_later(self, key: str, outcome: Outcome) -> None:
        """Count the fate of an image URL when the crawl ends, unless it gets another one before.

        A request that failed may be retried, and only its last attempt counts.

        Args:
            key: the cache key of the URL.
            outcome: the outcome of the URL; it is kept without its response.
        """
        self._undecided[hash(key)] = outcome._replace(entry=None, response=None)
        self._undecided.move_to_end(hash(key))
        if len(self._undecided) > MAX_UNDECIDED:
            self._count(*self._undecided.popitem(last=False))

    def count_lookup(self, key: str) -> None:
        """Count one URL that the cache was asked for, however often it is asked."""
        if self._looked_up.add(key, None):
            self.inc("lookup")

    def close(self) -> None:
        """Count the fates that were not final, because the crawl has ended."""
        while self._undecided:
            self._count(*self._undecided.popitem(last=False))

    def _count(self, digest: int, outcome: Outcome) -> None:
        fate, error, saved = outcome.fate, outcome.error, outcome.saved_bytes
        if fate is None or not self._counted.add(digest, None):
            return
        self._fates[fate] += 1
        self.inc(fate)
        if error is not None:
            self._reasons[error.reason] += 1
            self.inc(f"{fate}/{error.reason}")
        if outcome.is_stale:
            self.inc("stale")
        if saved:
            self._saved_bytes += saved
            self.inc("bytes_saved", saved)

    def count_fetched(self, size: int) -> None:
        """Count one image that was fetched from the site, with its size in bytes."""
        self._fetched += 1
        self._fetched_bytes += size

    def summary(self) -> str:
        """Return one line about all images; an empty string if there were no images."""
        fates = self._fates
        if not fates:
            return ""
        # These are rare, and are left out if there are none.
        rare = [f"{fates[fate]} {fate}, " for fate in _RARE_FATES if fates[fate]]
        line = (
            f"Image cache: {fates.total()} images: {fates['hit']} hit"
            f" ({_megabytes(self._saved_bytes)} saved), {fates['stored']} stored,"
            f" {fates['duplicate']} duplicate, {''.join(rare)}{fates['rejected']} rejected,"
            f" {fates['failed']} failed; {self._fetched} fetched"
            f" ({_megabytes(self._fetched_bytes)})"
        )
        reasons = ", ".join(f"{reason} {n}" for reason, n in self._reasons.most_common())
        return f"{line}; without image: {reasons}" if reasons else line


def _megabytes(count: int) -> str:
    return f"{count / 1e6:.1f} MB"
