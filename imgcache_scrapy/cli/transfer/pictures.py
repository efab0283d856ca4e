"""Picture: an image to export with its captures; and the list of pictures, which is on disk."""

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any, NamedTuple, Self

from imgcache_scrapy.cli.transfer.uses import facts_of
from imgcache_scrapy.core.entry import Entry
from imgcache_scrapy.core.errors import ConfigurationError
from imgcache_scrapy.core.keys import cache_key
from imgcache_scrapy.core.response_info import CONVERTED
from imgcache_scrapy.core.uses import Use

Splits = dict[str, float]
"""The share of each split, by its name; together they are 1."""

_TOLERANCE = 1e-6
_HASH_DIGITS = 13


class Picture(NamedTuple):
    """An image to export.

    Attributes:
        split: the name of its split; an empty string if there are no splits.
        captures: its captures that were asked for, oldest first.
        uses: its uses, newest first.
    """

    split: str
    captures: list[Entry]
    uses: Sequence[Use] = ()

    @property
    def first(self) -> Entry:
        """The oldest capture: a later one does not change the name of the file."""
        return self.captures[0]

    @property
    def content_hash(self) -> str:
        """The hash of the image."""
        return self.first["content_hash"]

    @property
    def size(self) -> int:
        """The size of the image in bytes."""
        return self.first["file_size_bytes"]

    def facts(self, file_name: str) -> dict[str, Any]:
        """Return what is known of the image, with the same keys for every image.

        Args:
            file_name: the name of the file that has it.
        """
        first = self.first
        return {
            "file_name": file_name,
            "url": first["url"],
            "content_hash": first["content_hash"],
            "content_type": first["content_type"],
            "file_size_bytes": first["file_size_bytes"],
            "width": first["width"],
            "height": first["height"],
            "perceptual_hash": first["perceptual_hash"] or "",
            "original_filename": first["original_filename"] or "",
            "client_name": first["client_name"],
            "bucket": first.get("bucket", ""),
            "lookup_time": first["lookup_time"],
            # A text, because every row of a data set must have the same structure.
            "captures": json.dumps([_facts_of(each) for each in self.captures]),
            **facts_of(self.uses, self.captures),
        }


def _facts_of(capture: Entry) -> dict[str, Any]:
    headers = {name: text for name, text in capture.get("headers", {}).items() if name != CONVERTED}
    key = capture["key"]
    facts = {
        "url": capture["url"],
        "lookup_time": capture["lookup_time"],
        "client_name": capture["client_name"],
        "bucket": capture.get("bucket", ""),
        "original_filename": capture["original_filename"],
        "key": None if key == cache_key(capture["url"]) else key,
        "headers": headers,
        "final_url": capture.get("final_url"),
        "converted": capture.get("converted"),
    }
    known = {name: value for name, value in facts.items() if value}
    # An empty one is that of a request without the header.
    return known | ({"accept": capture["accept"]} if "accept" in capture else {})


def parsed_splits(text: str | None) -> Splits:
    """Read the shares of splits.

    Args:
        text: for example `train=0.9,test=0.1`; None for no splits.

    Raises:
        ConfigurationError: it is something else, or the shares together are not 1.
    """
    splits: Splits = {}
    for part in [] if text is None else text.split(","):
        name, _, share = part.strip().partition("=")
        try:
            splits[name] = float(share)
        except ValueError as error:
            raise ConfigurationError(_split_advice(text)) from error
    if splits and (
        not all(name.isidentifier() and 0 <= share <= 1 for name, share in splits.items())
        or abs(sum(splits.values()) - 1) > _TOLERANCE
    ):
        raise ConfigurationError(_split_advice(text))
    return splits


def split_of(content_hash: str, splits: Splits) -> str:
    """Return the split of an image, which depends on its hash alone."""
    place = int(content_hash[:_HASH_DIGITS], 16) / 16**_HASH_DIGITS
    for name, share in splits.items():
        place -= share
        if place < 0:
            return name
    return next(reversed(splits), "")


class PictureList:
    """A list of pictures in a temporary file, sorted by split and hash.

    Args:
        splits: the splits.
    """

    def __init__(self, splits: Splits) -> None:
        self._splits = splits
        self._database = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._database.execute(
            "CREATE TABLE capture (split TEXT, hash TEXT, time TEXT, number INTEGER, entry TEXT,"
            " PRIMARY KEY (split, hash, time, number)) WITHOUT ROWID"
        )
        self._database.execute("CREATE TABLE use (hash TEXT PRIMARY KEY, uses TEXT) WITHOUT ROWID")
        self._database.execute("BEGIN")
        self._added = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()

    def add(self, entries: Iterable[Entry]) -> None:
        """Add captures, newest first."""
        rows = []
        for entry in entries:
            self._added += 1
            name = entry["content_hash"]
            split = split_of(name, self._splits)
            # Captures of the same time keep their order, from old to new.
            rows.append((split, name, entry["lookup_time"], -self._added, json.dumps(entry)))
        self._database.executemany("INSERT INTO capture VALUES (?, ?, ?, ?, ?)", rows)

    def add_uses(self, uses: Mapping[str, Sequence[Use]]) -> None:
        """Add all uses of images, by their hash."""
        rows = [(name, json.dumps(each)) for name, each in uses.items()]
        self._database.executemany("INSERT OR REPLACE INTO use VALUES (?, ?)", rows)

    def __len__(self) -> int:
        query = "SELECT count(DISTINCT hash) FROM capture"
        return int(self._database.execute(query).fetchone()[0])

    def has(self, split: str) -> bool:
        """Return whether a split has pictures."""
        query = "SELECT 1 FROM capture WHERE split = ? LIMIT 1"
        return self._database.execute(query, [split]).fetchone() is not None

    def pictures(self, split: str) -> Iterator[Picture]:
        """Yield the pictures of a split, sorted by their hash."""
        query = "SELECT hash, entry FROM capture WHERE split = ? ORDER BY hash, time, number"
        rows = self._database.execute(query, [split])
        for name, group in groupby(rows, key=itemgetter(0)):
            yield Picture(split, [json.loads(text) for _, text in group], self._uses(name))

    def _uses(self, content_hash: str) -> list[Use]:
        query = "SELECT uses FROM use WHERE hash = ?"
        row = self._database.execute(query, [content_hash]).fetchone()
        return [] if row is None else json.loads(row[0])


def _split_advice(text: str | None) -> str:
    return f"{text!r:.80} are no splits: write train=0.9,test=0.1, shares that together are 1"
