"""What became of a crawl's images: each URL counted once, in stats and in a line at the end."""

from collections import Counter
from collections.abc import Callable
from typing import Literal

from scrapy.http import Response

from imgcache_scrapy.core.entry import Entry
from imgcache_scrapy.core.joining import Seen
from imgcache_scrapy.plugin.responses import is_from_cache

Fate = Literal["hit", "stored", "duplicate", "spooled", "rejected", "failed"]

# By an entry's `created`, which the spool cannot know.
_OF_STORES: dict[bool | None, Fate] = {True: "stored", False: "duplicate", None: "spooled"}

# URLs that are remembered as counted, at about 65 bytes each.
COUNTED = 20_000


class Fates:
    """Counts the fates of a crawl's image URLs.

    Args:
        inc: adds to a stat of the crawl.
    """

    def __init__(self, inc: Callable[[str, int], None]) -> None:
        self._inc = inc
        self._counted: Seen[str] = Seen(remembered=COUNTED)
        self._fates: Counter[Fate] = Counter()
        self._reasons: Counter[str] = Counter()
        self._fetched = self._fetched_bytes = self._saved_bytes = 0

    def count(self, key: str, fate: Fate, reason: str | None = None, *, saved: int = 0) -> None:
        """Count the fate of an image URL, once in a crawl; the first one counts.

        One that comes again after `COUNTED` others may be counted again.

        Args:
            key: the cache key of the URL.
            fate: what became of it.
            reason: why it was rejected or failed.
            saved: bytes that were not fetched.
        """
        if not self._counted.add(key):
            return
        self._fates[fate] += 1
        self._inc(fate, 1)
        if reason is not None:
            self._reasons[reason] += 1
            self._inc(f"{fate}/{reason}", 1)
        if saved:
            self._saved_bytes += saved
            self._inc("bytes_saved", saved)

    def count_stored(self, key: str, response: Response, entry: Entry | None) -> None:
        """Count the fate of an image that came in a response and was given to `Crawl.store`."""
        if entry is None:
            self.count(key, "failed", "store")
        elif is_from_cache(response):  # a redirect led to an image that the cache had
            self.count(key, "hit", saved=len(response.body))
        else:
            self.count(key, _OF_STORES[entry.get("created")])

    def note_fetched(self, size: int) -> None:
        """Note that an image of so many bytes was fetched."""
        self._fetched += 1
        self._fetched_bytes += size

    def summary(self) -> str:
        """Tell all of it in a line; an empty one where there were no images."""
        fates = self._fates
        if not fates:
            return ""
        spooled = f"{fates['spooled']} spooled, " if fates["spooled"] else ""
        line = (
            f"Image cache: {fates.total()} images: {fates['hit']} hit"
            f" ({_megabytes(self._saved_bytes)} saved), {fates['stored']} stored,"
            f" {fates['duplicate']} duplicate, {spooled}{fates['rejected']} rejected,"
            f" {fates['failed']} failed; {self._fetched} fetched"
            f" ({_megabytes(self._fetched_bytes)})"
        )
        reasons = ", ".join(f"{reason} {n}" for reason, n in self._reasons.most_common())
        return f"{line}; without image: {reasons}" if reasons else line


def _megabytes(count: int) -> str:
    return f"{count / 1e6:.1f} MB"
