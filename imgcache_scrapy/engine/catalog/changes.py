"""What stores change in the catalog: a pure fold of observations over the rows that are there."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from imgcache_scrapy.core.entry import Entry
from imgcache_scrapy.engine.catalog.rows import Capture, Image, entry_of, microseconds

Row = dict[str, Any]


class Changes:
    """Folds observations, one after the other, into the rows to write.

    Args:
        images: the rows of the images that are observed, by content hash.
        newest: the newest capture of each URL digest and bucket that is observed.
        now: when the captures are made.

    Attributes:
        new_images: rows to insert.
        healed_images: rows of images that were damaged.
        new_captures: rows to insert.
        renewed_captures: rows that changed, by their `id`.
    """

    def __init__(
        self,
        images: Mapping[str, Mapping[Any, Any]],
        newest: Mapping[tuple[bytes, str], Mapping[Any, Any]],
        now: datetime,
    ) -> None:
        self._images = dict(images)
        self._newest = {key: dict(row) for key, row in newest.items()}
        self._now = microseconds(now)
        self.new_images: list[Row] = []
        self.healed_images: list[Row] = []
        self.new_captures: list[Row] = []
        self.renewed_captures: dict[int, Row] = {}

    def add(self, image: Image, capture: Capture) -> Entry:
        """Record an image and a capture of it.

        Returns:
            The entry, with `created`: whether the image is new.
        """
        created = image.content_hash not in self._images
        row = self._captured(capture.row(), image.content_hash)
        return {**entry_of({**self._image_row(image), **row}), "created": created}

    def _image_row(self, image: Image) -> Mapping[Any, Any]:
        known = self._images.get(image.content_hash)
        if known is not None and not known["damaged"]:
            return known
        row = self._images[image.content_hash] = image.row()
        (self.new_images if known is None else self.healed_images).append(row)
        return row

    def _captured(self, row: Row, content_hash: str) -> Row:
        """Renew the URL's newest capture where it led to the same image, else make a new one."""
        key = row["url_digest"], row["bucket"]
        newest = self._newest.get(key)
        if newest is not None and newest["content_hash"] == content_hash:
            newest |= row | {"lookup_time": max(row["lookup_time"], newest["lookup_time"])}
            if "id" in newest:
                self.renewed_captures[newest["id"]] = newest
            return newest
        row |= {"content_hash": content_hash, "created_at": self._now}
        self.new_captures.append(row)
        if newest is None or row["lookup_time"] >= newest["lookup_time"]:
            self._newest[key] = row
        return row
