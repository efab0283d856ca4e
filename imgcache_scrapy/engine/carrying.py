"""Carrier: brings the bytes of images from one cache into another one, checked on the way."""

import sqlite3
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from threading import Lock
from typing import NamedTuple

from imgcache_scrapy.core.batches import batches_by_size
from imgcache_scrapy.engine.cache import ImageCache
from imgcache_scrapy.engine.catalog.catalog import Catalog
from imgcache_scrapy.engine.catalog.merging import image_changes
from imgcache_scrapy.engine.catalog.whole_rows import Row
from imgcache_scrapy.engine.copy_source import CopySource
from imgcache_scrapy.engine.lost import lost_blobs

_DAMAGED = "its bytes are missing or damaged"
# Files that are synced side by side share the time of the disk.
_THREADS = 8
# What one thread has in memory; larger images come one after another.
_MAX_BYTES = 2 * 2**20
_MAX_IMAGES = 16


class Carried(NamedTuple):
    """Images that were brought.

    Attributes:
        rows: the rows in the source, by content hash; without images that were deleted meanwhile.
        whole: the hashes of those whose blobs were written.
        changed: the hashes of those whose rows in the copy are missing or older.
    """

    rows: dict[str, Row]
    whole: set[str]
    changed: set[str]


class Carrier:
    """Writes the blobs that a copy does not have; close it afterwards.

    Args:
        source: the cache to copy from.
        catalog: the catalog of the copy.
        target: the copy; None for a dry run, which only counts.
        on_problem: called with the hash of each image that cannot be brought, and the reason.

    Attributes:
        counts: the numbers of `images`, their `bytes`, and those that cannot be brought, `bad`.
    """

    def __init__(
        self,
        source: CopySource,
        catalog: Catalog,
        target: ImageCache | None,
        on_problem: Callable[[str, str], object],
    ) -> None:
        self._source = source
        self._catalog = catalog
        self._target = target
        self._on_problem = on_problem
        self._large_images = Lock()
        self._threads = ThreadPoolExecutor(_THREADS, "imgcache-copy")
        self._handled = _Names()
        self.counts: Counter[str] = Counter()

    def close(self) -> None:
        """Stop the threads."""
        self._threads.shutdown(cancel_futures=True)
        self._handled.close()

    def carry(self, wanted: Mapping[str, Row]) -> Carried:
        """Bring the images that the copy does not have, or has as damaged.

        Args:
            wanted: the rows of images in the source, by content hash.
        """
        rows = dict(wanted)
        there = self._catalog.image_rows(rows)
        sound = {name: row["file_size_bytes"] for name, row in there.items() if not row["damaged"]}
        absent = rows.keys() - sound.keys()
        if self._target is None:
            return Carried(rows, self._count([rows[name] for name in absent]), set())
        if self._target.blobs.has_fast_sizes:
            absent |= lost_blobs(self._target.blobs, sound)
        # In this order, few folders have to be synced.
        ordered = (rows[name] for name in sorted(absent))
        parts = batches_by_size(ordered, _size_of, _MAX_BYTES, _MAX_IMAGES)
        reasons: dict[str, str | None] = {}
        for found in self._threads.map(self._carry, parts):
            reasons |= found
        whole = {name for name, reason in reasons.items() if reason is None}
        self._note(rows, whole)
        self._tell({name: reason for name, reason in reasons.items() if reason}, rows)
        changed = {
            name
            for name, row in rows.items()
            if name not in there or image_changes(row, there[name], is_whole=name in whole)
        }
        return Carried(rows, whole, changed)

    def carry_again(self, rows: Mapping[str, Row]) -> set[str]:
        """Bring those of some images whose blobs were deleted meanwhile.

        Args:
            rows: the rows of images that were brought, by content hash; they are locked.

        Returns:
            The hashes of those that cannot be brought any more.
        """
        assert self._target is not None  # noqa: S101 - a dry run brings nothing
        sizes = {name: row["file_size_bytes"] for name, row in rows.items()}
        lost = lost_blobs(self._target.blobs, sizes)
        failed = [self._carry([rows[name]]) for name in lost]
        return {name for each in failed for name, reason in each.items() if reason}

    def _count(self, rows: Iterable[Row]) -> set[str]:
        """Do what `carry` does, without a look at the bytes."""
        new = {row["content_hash"]: row for row in rows if self._handled.add(row["content_hash"])}
        whole = {name for name, row in new.items() if not row["damaged"]}
        self._note(new, whole)
        for name in new.keys() - whole:
            self.counts["bad"] += 1
            self._on_problem(name, _DAMAGED)
        return whole

    def _note(self, rows: Mapping[str, Row], names: Collection[str]) -> None:
        self.counts.update(images=len(names), bytes=sum(_size_of(rows[name]) for name in names))

    def _tell(self, reasons: Mapping[str, str], rows: dict[str, Row]) -> None:
        known = self._source.catalog.known(reasons)
        for name, reason in reasons.items():
            if name not in known:  # It was deleted meanwhile.
                del rows[name]
            elif self._handled.add(name):
                self.counts["bad"] += 1
                self._on_problem(name, reason)

    def _carry(self, part: Sequence[Row]) -> dict[str, str | None]:
        """Bring some images; return the reason for each that cannot be brought."""
        assert self._target is not None  # noqa: S101 - a dry run brings nothing
        with self._large_images if sum(map(_size_of, part)) > _MAX_BYTES else nullcontext():
            found = {row["content_hash"]: self._source.read(row["content_hash"]) for row in part}
            data = {name: each for name, each in found.items() if each is not None}
            failed = self._target.blobs.put_many(data)
        return {
            name: _DAMAGED if name not in data else str(failed[name]) if name in failed else None
            for name in found
        }


class _Names:
    """A set of names in a temporary file."""

    def __init__(self) -> None:
        self._database = sqlite3.connect("", isolation_level=None)
        self._database.execute("CREATE TABLE name (name TEXT PRIMARY KEY) WITHOUT ROWID")
        self._database.execute("BEGIN")

    def add(self, name: str) -> bool:
        """Add a name; return whether it is new."""
        added = self._database.execute("INSERT OR IGNORE INTO name VALUES (?)", (name,))
        return bool(added.rowcount)

    def close(self) -> None:
        self._database.close()


def _size_of(row: Row) -> int:
    return int(row["file_size_bytes"])
