"""TakeDown: deletes the captures of a selection in short steps, so that others go on meanwhile."""

import json
from collections.abc import Iterator
from contextlib import suppress

from imgcache_scrapy.core.audit import Counts, Deed
from imgcache_scrapy.core.errors import CountChangedError, ReadOnlyError
from imgcache_scrapy.core.lazy import lazy_property
from imgcache_scrapy.core.selection import Selection
from imgcache_scrapy.engine.cache import ImageCache
from imgcache_scrapy.engine.catalog.empty import EmptyCatalog
from imgcache_scrapy.engine.catalog.removal import BATCH_SIZE, add
from imgcache_scrapy.engine.upkeep import Upkeep


class TakeDown:
    """Deletes captures, with their last ones the images, their blobs and the snapshots.

    Between two steps other threads and processes store. A kill leaves at most the blobs of one
    batch, which `imgcache gc` removes; to call it again completes it.

    Args:
        selection: the captures.
        actor: who does it, for the audit list.
        expected: refuse unless it is this number of captures; None for any number.
        dry_run: whether only to count.
        block: whether to block the host or the URL of the selection. If the selection is
            something else, the images whose last capture is deleted are blocked.

    Attributes:
        counts: what was deleted so far, or what would be deleted.
    """

    def __init__(
        self,
        selection: Selection,
        actor: str = "",
        *,
        expected: int | None = None,
        dry_run: bool = False,
        block: bool = False,
    ) -> None:
        self.counts = Counts()
        self._selection = selection
        self._expected = expected
        self._dry_run = dry_run
        self._blocks = block
        more = {"block": True} if block else {}
        self._deed = Deed(actor, "take_down", {**selection.description(), **more})
        self._steps: Iterator[None] | None = None

    def step(self, cache: ImageCache) -> bool:
        """Do the next step; return whether there are more.

        Raises:
            CountChangedError: there is another number of captures than expected.
            ReadOnlyError: the cache can only be read.
            UnavailableError: the catalog or the storage fails.
        """
        if self._steps is None:
            self._steps = self._run(cache)
        return next(self._steps, self) is None

    def run(self, cache: ImageCache) -> Counts:
        """Do all steps; return what was deleted."""
        while self.step(cache):
            pass
        return self.counts

    def _run(self, cache: ImageCache) -> Iterator[None]:
        if isinstance(cache.catalog, EmptyCatalog):
            return
        if not self._dry_run:
            cache.catalog.check_writable()
        yield from self._fill(cache)
        if self._dry_run or self._expected is not None:
            counts = cache.catalog.count_removal(self._selection)
            if self._dry_run:
                self.counts = counts
                return
            if counts.captures != self._expected:
                raise CountChangedError(
                    f"the filter has {counts.captures} captures now, not {self._expected}: count"
                    " them again"
                )
        source = self._selection.source if self._blocks else None
        if source is not None:
            cache.catalog.block_source(source, self._reason)
        yield from self._remove(cache, blocks_images=self._blocks and source is None)
        cache.renew_snapshots()

    def _fill(self, cache: ImageCache) -> Iterator[None]:
        """Fill the hosts and keys that older versions did not record, so that none is missed."""
        if self._selection.url is None and "host" not in self._selection.filters:
            return
        with suppress(ReadOnlyError):  # A dry run; the captures without a host are not counted.
            for _ in Upkeep(cache).fill_keys():
                yield

    def _remove(self, cache: ImageCache, *, blocks_images: bool) -> Iterator[None]:
        after, is_last = 0, False
        while not is_last:
            batch = cache.catalog.removable_after(self._selection, after)
            is_last = len(batch) < BATCH_SIZE
            removed = cache.catalog.remove(
                self._selection,
                batch,
                block_reason=self._reason if blocks_images else None,
                last_deed=(self._deed, self.counts) if is_last else None,
            )
            self.counts = add(self.counts, removed.counts)
            after = batch[-1].capture_id if batch else after
            yield
            # The rows are gone durably now. A store may have brought some of them back.
            yield from cache.delete_orphans(removed.images)

    @lazy_property
    def _reason(self) -> str:
        return f"takedown {json.dumps(self._selection.description(), ensure_ascii=False)}"
