"""Decide which captures of a source a copy lacks, or has as they were before, without any I/O."""

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, NamedTuple

from imgcache_scrapy.engine.catalog.filling import filled
from imgcache_scrapy.engine.catalog.whole_rows import Row

Find = Callable[[Sequence[Row]], Iterable[Row]]
"""Finds at least the captures in a catalog that may be the same as some rows."""

# What a store changes in the newest capture of a key that has the same image.
_RENEWED = ("url", "client_name", "original_filename", "lookup_time", "headers", "final_url")


class CaptureChanges(NamedTuple):
    """What a copy has to write.

    Attributes:
        new: the rows to insert, in their order.
        renewed: the rows to update, each with the id that it has in the copy.
        replaced: the ids of rows to delete, because `new` has them with another URL.
        known: the number of captures that are there already.
    """

    new: list[dict[str, Any]]
    renewed: list[dict[str, Any]]
    replaced: list[int]
    known: int


def capture_changes(
    rows: Sequence[Row], *, copy_at: Find, copy_created: Find, source_at: Find
) -> CaptureChanges:
    """Compare captures of a source with those of a copy.

    A capture is the same in both if its key, bucket, `accept`, image and creation time are, because
    a store that renews it changes none of these. Several captures may be equal: each counts.

    Args:
        rows: captures of the source, in the order of their ids.
        copy_at: finds the captures of the copy with the keys and lookup times of rows.
        copy_created: finds the captures of the copy with the keys and creation times of rows.
        source_at: as `copy_at`, in the source.
    """
    rows = [filled(row) for row in rows]
    found = _Found()
    twins = _by(_moment, copy_at(rows))
    numbers = _numbers(source_at([row for row in rows if _moment(row) in twins]))
    others = []
    for row in rows:
        its_twins = twins.get(_moment(row), [])
        number = numbers.get(row["id"], 0)
        if number < len(its_twins):
            found.add(row, its_twins[number], is_newer=True)
        else:
            others.append(row)
    # These are new, or were renewed after they were copied, or in the copy itself.
    before = _without_source(copy_created(others), source_at) if others else {}
    for row in others:
        candidates = before.get(_identity(row))
        if candidates:
            older = candidates.pop(0)
            found.add(row, older, is_newer=row["lookup_time"] > older["lookup_time"])
        else:
            found.new.append((row, None))
    return found.changes()


class _Found:
    """Collects the changes."""

    def __init__(self) -> None:
        self.new: list[tuple[Row, int | None]] = []
        self._renewed: list[dict[str, Any]] = []
        self._known = 0

    def add(self, row: Row, there: Row, *, is_newer: bool) -> None:
        """Add a capture that the copy has; it is renewed if the source has it newer."""
        if not is_newer or all(row[name] == there[name] for name in _RENEWED):
            self._known += 1
        elif row["url"] != there["url"]:
            # A new row, because the index of URLs does not see that a URL changes.
            self.new.append((row, there["id"]))
        else:
            self._renewed.append({**row, "id": there["id"]})

    def changes(self) -> CaptureChanges:
        """Return the changes."""
        ordered = sorted(self.new, key=lambda each: each[0]["id"])
        new = [{name: row[name] for name in row if name != "id"} for row, _ in ordered]
        replaced = [its_id for _, its_id in ordered if its_id is not None]
        return CaptureChanges(new, self._renewed, replaced, self._known)


def _identity(row: Row) -> tuple[Any, ...]:
    names = ("bucket", "accept", "content_hash", "created_at")
    return bytes(row["url_digest"]), *(row[name] for name in names)


def _moment(row: Row) -> tuple[Any, ...]:
    return *_identity(row), row["lookup_time"]


def _by(
    value_of: Callable[[Row], tuple[Any, ...]], rows: Iterable[Row]
) -> dict[tuple[Any, ...], list[Row]]:
    groups = defaultdict(list)
    for row in sorted(map(filled, rows), key=lambda row: row["id"]):
        groups[value_of(row)].append(row)
    return dict(groups)


def _numbers(rows: Collection[Row] | Iterable[Row]) -> dict[int, int]:
    """Return the place of each row among those that are equal to it."""
    groups = _by(_moment, rows).values()
    return {row["id"]: number for group in groups for number, row in enumerate(group)}


def _without_source(candidates: Iterable[Row], source_at: Find) -> dict[tuple[Any, ...], list[Row]]:
    """Group the captures of the copy that the source does not have any more as they are."""
    groups = _by(_moment, candidates)
    known = [row for group in groups.values() for row in group]
    counts = Counter(_moment(filled(row)) for row in source_at(known)) if known else Counter()
    left = (row for moment, group in groups.items() for row in group[counts[moment] :])
    return _by(_identity, left)
