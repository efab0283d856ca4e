"""Copy a cache into another one, page by page, while crawls use both; repeated, it goes on.

The order of the steps follows from the invariants of a cache. What is blocked comes first, so that
it holds in the copy from then on. The blobs of a page are durable before its rows. Captures are
written in the order of the source, because of two with the same time the later one is the newer.
Nothing is deleted in the copy: it may have images of its own.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from imgcache_scrapy.core.batches import batches, batches_by_size
from imgcache_scrapy.core.blocked import Source, sources_of
from imgcache_scrapy.engine.cache import ImageCache
from imgcache_scrapy.engine.carrying import Carried, Carrier
from imgcache_scrapy.engine.catalog.capture_changes import CaptureChanges
from imgcache_scrapy.engine.catalog.catalog import Catalog
from imgcache_scrapy.engine.catalog.database import database_call
from imgcache_scrapy.engine.catalog.merging import (
    BLOCKS,
    OTHER_LISTS,
    merge_images,
    merge_tables,
    merge_uses,
    plan_captures,
)
from imgcache_scrapy.engine.catalog.whole_rows import Row
from imgcache_scrapy.engine.copy_source import CopySource

COUNTS = ("captures", "copied", "renewed", "known", "blocked", "images", "bytes", "bad")
"""What a copy counts: captures; of these, those that were copied, that were there as they were
before, that were there, and that are not copied because the copy blocks them; images whose bytes
were written; these bytes; and images without their bytes, because these are damaged."""

# The captures of one transaction, in which other writers wait.
_BATCH_SIZE = 400
# A kill costs at most the images of this size that were written without their captures.
_MAX_BYTES = 128 * 2**20


class Callbacks(NamedTuple):
    """What a copy calls to report its problems and its progress.

    Attributes:
        on_problem: called with the hash of each image without its bytes, and the reason.
        on_total: called with the number of captures of the source.
        on_progress: called with the number of captures that were handled since the last call.
    """

    on_problem: Callable[[str, str], object] = lambda *_: None
    on_total: Callable[[int], object] = lambda _: None
    on_progress: Callable[[int], object] = lambda _: None


class Copy:
    """One run of a copy; close it afterwards.

    Args:
        source: the cache to copy from.
        catalog: the catalog of the copy.
        target: the copy; None for a dry run, which only counts.
        callbacks: what the copy calls.
    """

    def __init__(
        self, source: CopySource, catalog: Catalog, target: ImageCache | None, callbacks: Callbacks
    ) -> None:
        self._source = source
        self._catalog = catalog
        self._target = target
        self._callbacks = callbacks
        self._carrier = Carrier(source, catalog, target, callbacks.on_problem)
        # The hosts and URLs of the rows of a page, by their ids.
        self._sources: dict[int, set[Source]] = {}
        self._counts = Counter(dict.fromkeys(COUNTS, 0))

    def run(self) -> Counter[str]:
        """Copy everything that the copy does not have.

        Returns:
            The numbers that `COUNTS` names.

        Raises:
            ReadOnlyError: the copy can only be read.
            UnavailableError: a catalog or a storage fails. What was copied before is durable.
        """
        source = self._source.catalog
        self._callbacks.on_total(source.stats()["captures"])
        if self._target is not None:
            self._catalog.check_writable()
            merge_tables(source, self._catalog, BLOCKS)
        for page in source.capture_pages():
            self._copy_captures(page)
        for names in source.images_without_captures():
            images = source.image_rows(set(names) - self._blocked_images(names))
            carried = self._carrier.carry(images)
            self._write(self._target, [], carried, carried.rows)
        if self._target is not None:
            self._copy_uses()
            merge_tables(source, self._catalog, OTHER_LISTS)
        return self._counts + self._carrier.counts

    def close(self) -> None:
        """Stop the threads."""
        self._carrier.close()

    def _copy_captures(self, page: Sequence[Row]) -> None:
        held = self._held_of(page)
        images = self._source.catalog.image_rows({row["content_hash"] for row in page})
        # One whose image has no row was deleted in the source meanwhile.
        found = [row for row in page if row["content_hash"] in images and row["id"] not in held]
        self._counts.update(captures=len(page), blocked=len(held))
        for rows in batches_by_size(
            found,
            lambda row: int(images[row["content_hash"]]["file_size_bytes"]),
            _MAX_BYTES,
            len(found) or 1,
        ):
            self._copy_part(rows, images)
            self._callbacks.on_progress(len(rows))
        self._callbacks.on_progress(len(page) - len(found))

    def _copy_part(self, part: Sequence[Row], images: Mapping[str, Row]) -> None:
        """Copy images of a bounded size, and then their captures."""
        names = {row["content_hash"] for row in part}
        carried = self._carrier.carry({name: images[name] for name in names})
        for batch in batches(part, _BATCH_SIZE):
            rows = [row for row in batch if row["content_hash"] in carried.rows]
            names = {row["content_hash"] for row in rows}
            self._counts.update(self._write(self._target, rows, carried, names))

    def _copy_uses(self) -> None:
        for page in self._source.catalog.use_pages():
            held = self._held_of(page)
            merge_uses(self._catalog, [row for row in page if row["id"] not in held])

    def _held_of(self, page: Sequence[Row]) -> set[int]:
        """Return the ids of the captures or the uses that the copy does not take."""
        self._sources = {
            row["id"]: sources_of(row["url"], row["key"] or row["url"], row.get("final_url"))
            for row in page
        }
        blocked_images = self._blocked_images({row["content_hash"] for row in page})
        return self._held(page, blocked_images, self._catalog.blocked_sources_among)

    def _blocked_images(self, names: Collection[str]) -> set[str]:
        """Return which images the copy blocks, without those that the source blocks and has."""
        found = self._catalog.blocked_among(names)
        return found - self._source.catalog.blocked_among(found)

    def _held(
        self,
        rows: Iterable[Row],
        blocked_images: Collection[str],
        blocked_among: Callable[[Collection[Source]], set[Source]],
    ) -> set[int]:
        """Return the ids of the captures that the copy does not take."""
        sources = {row["id"]: self._sources[row["id"]] for row in rows}
        found = blocked_among(set().union(*sources.values()))
        found -= self._source.catalog.blocked_sources_among(found)
        return {
            row["id"]
            for row in rows
            if row["content_hash"] in blocked_images or not found.isdisjoint(sources[row["id"]])
        }

    @database_call
    def _write(
        self,
        target: ImageCache | None,
        rows: Sequence[Row],
        carried: Carried,
        names: Collection[str],
    ) -> dict[str, int]:
        """Write captures and images in one transaction; in a dry run, count the captures.

        Args:
            target: the copy; None for a dry run.
            rows: the captures.
            carried: their images, and others.
            names: the hashes of the images to write.
        """
        with self._catalog.reading() as connection:
            plan = plan_captures(connection, rows, self._source.catalog.captures_at)
        is_changed = plan.new or plan.renewed or not carried.changed.isdisjoint(names)
        if target is None or not is_changed:
            return _counts_of(plan)
        with self._catalog.exclusive(names) as transaction:
            # Meanwhile something may have been blocked, or a blob deleted.
            blocked = transaction.blocked - self._source.catalog.blocked_among(transaction.blocked)
            held = self._held(rows, blocked, transaction.blocked_sources_among)
            rows = [row for row in rows if row["id"] not in held]
            late = set(names) - {row["content_hash"] for row in rows} if held else blocked
            images = {name: carried.rows[name] for name in names if name not in late}
            whole = carried.whole & images.keys()
            whole -= self._carrier.carry_again({name: images[name] for name in whole})
            merge_images(transaction, images, whole)
            plan = plan_captures(transaction.connection, rows, self._source.catalog.captures_at)
            transaction.change_captures(plan.new, plan.renewed, plan.replaced)
            written = [*plan.new, *plan.renewed]
            transaction.forget_failures((row["bucket"], row["url"]) for row in written)
        for name in carried.whole & late:
            target.delete_orphan(name)
        return {**_counts_of(plan), "blocked": len(held)}


def _counts_of(plan: CaptureChanges) -> dict[str, int]:
    renewed = len(plan.renewed) + len(plan.replaced)
    return {
        "copied": len(plan.new) - len(plan.replaced),
        "renewed": renewed,
        "known": plan.known,
    }
