"""WriteTransaction: changes a few images of the catalog, which are locked against others."""

from collections.abc import Collection, Iterable, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, RowMapping

from imgcache_scrapy.core.audit import NOTHING, Counts, Deed
from imgcache_scrapy.core.blocked import BlockedImage, Source
from imgcache_scrapy.core.entry import Entry
from imgcache_scrapy.core.errors import blocked
from imgcache_scrapy.core.lazy import lazy_property
from imgcache_scrapy.engine.catalog import auditing, url_index
from imgcache_scrapy.engine.catalog.changes import CaptureKey, Changes, capture_key
from imgcache_scrapy.engine.catalog.filling import Filled, fill_batch
from imgcache_scrapy.engine.catalog.newest import newest_captures
from imgcache_scrapy.engine.catalog.rare_rows import rarities
from imgcache_scrapy.engine.catalog.rows import (
    Capture,
    Image,
    blocked_image,
    digest,
    failure_digest,
    now,
)
from imgcache_scrapy.engine.catalog.sources import find_blocked_sources
from imgcache_scrapy.engine.catalog.tables import blocked as _blocked
from imgcache_scrapy.engine.catalog.tables import capture as _capture
from imgcache_scrapy.engine.catalog.tables import (
    delete_failures,
    find_blocked,
    is_unused,
    unlocked_failures,
)
from imgcache_scrapy.engine.catalog.tables import failure as _failure
from imgcache_scrapy.engine.catalog.tables import image as _image
from imgcache_scrapy.engine.catalog.tables import image_use as _use
from imgcache_scrapy.engine.catalog.use_rows import delete_lost_uses

# Built once, because building a statement takes longer than running it.
_find_images = sa.select(_image).where(
    _image.c.content_hash.in_(sa.bindparam("hashes", expanding=True))
)
# The columns of an image that decoding it does not change.
_NOT_DECODED = {"content_hash", "damaged", "last_used"}
# A row from the future must be older than a store that begins now and is written later.
_MAX_STORE_TIME = 60_000_000
# Corrects the lookup times that a wrong clock gave: see `rows.seen_at`.
_correct_times = (
    _capture.update()
    .where(
        _capture.c.url_digest.in_(sa.bindparam("digests", expanding=True)),
        _capture.c.lookup_time > sa.bindparam("at"),
    )
    .values(
        lookup_time=sa.case(
            (_capture.c.created_at < sa.bindparam("at"), _capture.c.created_at),
            else_=sa.bindparam("at") - _MAX_STORE_TIME,
        )
    )
)
_insert_image = _image.insert()
_update_image = _image.update().where(_image.c.content_hash == sa.bindparam("its_hash"))
_insert_capture = _capture.insert()
# The digest, key and host too: another process may have filled them since the row was read.
_RENEWED = (
    *("url_digest", "key", "host"),
    *("client_name", "original_filename", "lookup_time", "headers", "final_url"),
)
_renew_capture = (
    _capture.update()
    .where(_capture.c.id == sa.bindparam("its_id"))
    .values({name: sa.bindparam(name) for name in _RENEWED})
)
_forget_failures = delete_failures(
    unlocked_failures.where(_failure.c.digest.in_(sa.bindparam("digests", expanding=True)))
)
_delete_captures = _capture.delete().where(_capture.c.id.in_(sa.bindparam("ids", expanding=True)))


class WriteTransaction:
    """A write transaction on some images; `Catalog.exclusive` creates it."""

    def __init__(self, connection: Connection, content_hashes: Collection[str]) -> None:
        self._connection = connection
        self._hashes = list(content_hashes)

    @property
    def connection(self) -> Connection:
        """The connection of the transaction."""
        return self._connection

    @lazy_property
    def _images(self) -> dict[str, RowMapping]:
        rows = self._connection.execute(_find_images, {"hashes": self._hashes}).mappings()
        return {row["content_hash"]: row for row in rows}

    def has_image(self, content_hash: str) -> bool:
        """Return whether an image had a row when the transaction began, damaged or not."""
        return content_hash in self._images

    def is_damaged(self, content_hash: str) -> bool:
        """Return whether an image was marked as damaged when the transaction began."""
        return self.has_image(content_hash) and self._images[content_hash]["damaged"]

    def sound_image(self, content_hash: str) -> Image | None:
        """Return an image as it was when the transaction began; None if damaged or without row."""
        row = self._images.get(content_hash)
        if row is None or row["damaged"]:
            return None
        return Image(*(row[name] for name in Image._fields))

    @lazy_property
    def _rarities(self) -> sa.Row[Any]:
        return self._connection.execute(rarities).one()

    @lazy_property
    def blocked(self) -> set[str]:
        """The images that are blocked, until the transaction ends."""
        if not self._rarities.blocked:
            return set()
        return set(self._connection.scalars(find_blocked, {"hashes": self._hashes}))

    def block(self, content_hash: str, reason: str) -> BlockedImage:
        """Block an image; if it is blocked already, replace the reason."""
        its_row = _blocked.c.content_hash == content_hash
        if content_hash in self.blocked:
            self._connection.execute(_blocked.update().where(its_row).values(reason=reason))
        else:
            row = {"content_hash": content_hash, "reason": reason, "created_at": now()}
            self._connection.execute(_blocked.insert(), row)
        return blocked_image(*self._connection.execute(sa.select(_blocked).where(its_row)).one())

    def unblock(self, content_hash: str) -> bool:
        """Allow an image again; return whether it was blocked."""
        its_row = _blocked.c.content_hash == content_hash
        return bool(self._connection.execute(_blocked.delete().where(its_row)).rowcount)

    def record(self, observed: Sequence[tuple[Image, Capture]]) -> list[Entry]:
        """Record images and their captures, in this order.

        A damaged image is not damaged any more. If the newest capture of a URL has the same
        image, it is renewed. The failures of the URLs are forgotten.

        Returns:
            The entries, with `created`: whether the image is new.

        Raises:
            BlockedError: one of the images is blocked.
        """
        for image, _ in observed:
            if image.content_hash in self.blocked:
                raise blocked(image.content_hash)
        at = now()
        changes = Changes(self._images, self._newest(observed, at), at)
        entries = [changes.add(image, capture) for image, capture in observed]
        self._execute(_insert_image, changes.new_images)
        healed = [row | {"its_hash": row["content_hash"]} for row in changes.healed_images]
        self._execute(_update_image, healed)
        self.change_captures(
            changes.new_captures, changes.renewed_captures.values(), changes.replaced_captures
        )
        self.forget_failures((capture.bucket, capture.url) for _, capture in observed)
        return entries

    def change_captures(
        self,
        new: list[dict[str, Any]],
        renewed: Iterable[dict[str, Any]],
        replaced: Sequence[int],
    ) -> None:
        """Write captures.

        Args:
            new: rows to insert.
            renewed: rows to update, by their `id`.
            replaced: the ids of rows that new rows replace.
        """
        if replaced:
            self._connection.execute(_delete_captures, {"ids": replaced})
        self._execute(_insert_capture, new)
        self._execute(_renew_capture, [row | {"its_id": row["id"]} for row in renewed])
        if new:
            url_index.extend(self._connection)

    def forget_failures(self, captured: Iterable[tuple[str, str]]) -> None:
        """Forget the failures of URLs, each given with its bucket."""
        if self._rarities.failure:
            digests = [failure_digest(bucket, url) for bucket, url in captured]
            self._connection.execute(_forget_failures, {"digests": digests})

    def fill_keys(self, after: int) -> Filled:
        """Fill the keys and hosts of the next old captures; see `fill_batch`."""
        return fill_batch(self._connection, after)

    def mark_damaged(self, content_hash: str) -> None:
        """Mark an image as damaged: it is a miss until it is stored again."""
        self._connection.execute(_update_image.values(damaged=True), {"its_hash": content_hash})

    def mark_sound(self, content_hash: str) -> None:
        """Remove the mark that an image is damaged."""
        self._connection.execute(_update_image.values(damaged=False), {"its_hash": content_hash})

    def begin_decoding(self, content_hash: str) -> int | None:
        """Count an attempt to decode an image that is not decoded yet.

        Returns:
            The number of this attempt, from 1; None if the image must not be decoded: it is
            decoded, it cannot be decoded, it is damaged, or it has no row.
        """
        row = self._images.get(content_hash)
        if row is None or row["damaged"] or row["decode_error"] or row["width"] is not None:
            return None
        attempt: int = row["decode_attempts"] + 1
        self._connection.execute(
            _update_image.values(decode_attempts=attempt), {"its_hash": content_hash}
        )
        return attempt

    def end_decoding(self, image: Image) -> None:
        """Record what decoding an image gave, if the image still has a row."""
        row = image.row()
        decoded = {name: row[name] for name in row if name not in _NOT_DECODED}
        self._connection.execute(_update_image.values(decoded), {"its_hash": image.content_hash})

    def delete_captures(self, content_hash: str, bucket: str, deed: Deed | None = None) -> int:
        """Delete the captures of an image in a bucket; with its last capture, delete the image.

        Args:
            content_hash: the hash of the image.
            bucket: the bucket.
            deed: the act to record if something is deleted; None for none.

        Returns:
            The number of deleted captures; 1 for an image without any capture, which is deleted.
        """
        deleted = self._delete_captures(content_hash, bucket)
        if deed is not None and any(deleted):
            self.record_deed(deed, deleted)
        return max(deleted.captures, deleted.images)

    def _delete_captures(self, content_hash: str, bucket: str) -> Counts:
        of_image = _capture.c.content_hash == content_hash
        deleted = self._connection.execute(
            _capture.delete().where(of_image, _capture.c.bucket == bucket)
        ).rowcount
        delete_lost_uses(self._connection, [content_hash])
        if self._connection.scalar(sa.select(sa.exists().where(of_image))):
            return Counts(deleted)
        its_row = _image.c.content_hash == content_hash
        size = self._connection.scalar(sa.select(_image.c.file_size_bytes).where(its_row))
        images = self._connection.execute(_image.delete().where(its_row)).rowcount
        return Counts(deleted, images, size or 0)

    def record_deed(self, deed: Deed, counts: Counts = NOTHING) -> None:
        """Write an act, and what it deleted, into the audit list."""
        auditing.record(self._connection, deed, counts)

    def may_block_sources(self) -> bool:
        """Return whether any host or URL is blocked, until the transaction ends."""
        return bool(self._rarities.blocked_source)

    def blocked_sources_among(self, sources: Collection[Source]) -> set[Source]:
        """Return which of these hosts and URLs are blocked, until the transaction ends."""
        return find_blocked_sources(self._connection, sources)

    def delete_unused(self, day: int) -> list[str]:
        """Delete those of the images, with all captures, that were not used on a day.

        Args:
            day: in days since 1970.

        Returns:
            The hashes of the deleted images.
        """
        unused = sa.select(_image.c.content_hash).where(
            _image.c.content_hash.in_(self._hashes), is_unused(day)
        )
        names = list(self._connection.scalars(unused))
        for table in (_use, _capture, _image):
            self._connection.execute(table.delete().where(table.c.content_hash.in_(names)))
        return names

    def _newest(
        self, observed: Sequence[tuple[Image, Capture]], at: int
    ) -> dict[CaptureKey, RowMapping]:
        if (self._rarities.latest_time or 0) > at:
            digests = [digest(capture.key) for _, capture in observed]
            self._connection.execute(_correct_times, {"digests": digests, "at": at})
        found = newest_captures(self._connection, (capture for _, capture in observed))
        return {capture_key(row): row for row in found}

    def _execute(self, statement: sa.Executable, rows: list[dict[str, Any]]) -> None:
        if rows:
            self._connection.execute(statement, rows)
