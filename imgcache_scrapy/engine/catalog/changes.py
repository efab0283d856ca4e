"""Compute which rows a batch of stores inserts and updates, without any I/O."""

from collections.abc import Mapping
from typing import Any

from imgcache_scrapy.core.entry import Entry
from imgcache_scrapy.engine.catalog.rows import Capture, Image, entry_of

Row = dict[str, Any]
CaptureKey = tuple[bytes, str, str | None]
"""What is the same in all captures of a history: the digest of the key, bucket and `accept`."""


class Changes:
    """Collects the rows to write for a batch of stores; later stores see the earlier ones.

    Args:
        images: the existing rows of the images in the batch, by content hash.
        newest: the row of the newest capture of each URL digest, bucket and `accept` in the batch.
        now: the creation time of new captures; a later lookup time is that of a wrong clock, and
            becomes this time.

    Attributes:
        new_images: rows to insert.
        healed_images: rows to update, because the image was damaged and is stored again.
        new_captures: rows to insert.
        renewed_captures: rows to update, by their `id`.
        replaced_captures: the ids of rows that new rows replace.
    """

    def __init__(
        self,
        images: Mapping[str, Mapping[Any, Any]],
        newest: Mapping[CaptureKey, Mapping[Any, Any]],
        now: int,
    ) -> None:
        self._images = dict(images)
        self._newest = {key: dict(row) for key, row in newest.items()}
        self._now = now
        self.new_images: list[Row] = []
        self.healed_images: list[Row] = []
        self.new_captures: list[Row] = []
        self.renewed_captures: dict[int, Row] = {}
        self.replaced_captures: list[int] = []

    def add(self, image: Image, capture: Capture) -> Entry:
        """Add an image and a capture of it.

        Returns:
            The entry, with `created`: whether the image is new.
        """
        created = image.content_hash not in self._images
        row = self._capture_row(capture.row(), image.content_hash)
        return {**entry_of({**self._image_row(image), **row}), "created": created}

    def _image_row(self, image: Image) -> Mapping[Any, Any]:
        known = self._images.get(image.content_hash)
        if known is not None and not known["damaged"]:
            return known
        row = self._images[image.content_hash] = image.row()
        (self.new_images if known is None else self.healed_images).append(row)
        return row

    def _capture_row(self, row: Row, content_hash: str) -> Row:
        """Renew the newest capture of the key if it has the same image, else add a new capture."""
        row["lookup_time"] = min(row["lookup_time"], self._now)
        key = capture_key(row)
        newest = self._newest.get(key)
        if newest is not None and newest["content_hash"] == content_hash:
            # A store may know nothing of the response.
            row["headers"] = row["headers"] or newest["headers"]
            row["lookup_time"] = max(row["lookup_time"], newest["lookup_time"])
            if "id" in newest and row["url"] != newest["url"]:
                # A new row, because the index of URLs does not see that a URL changes.
                self.replaced_captures.append(newest["id"])
                self.renewed_captures.pop(newest["id"], None)
                row |= {name: newest[name] for name in ("content_hash", "created_at")}
                self.new_captures.append(row)
                self._newest[key] = row
                return row
            newest |= row
            if "id" in newest:
                self.renewed_captures[newest["id"]] = newest
            return newest
        row |= {"content_hash": content_hash, "created_at": self._now}
        self.new_captures.append(row)
        if newest is None or row["lookup_time"] >= newest["lookup_time"]:
            self._newest[key] = row
        return row


def capture_key(row: Mapping[Any, Any]) -> CaptureKey:
    """Return what is the same in all captures of the history to which a row belongs."""
    return row["url_digest"], row["bucket"], row["accept"]
