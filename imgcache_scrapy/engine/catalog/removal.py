"""Removals: the queries that count and delete the captures of a selection, batch by batch."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from imgcache_scrapy.core.audit import Counts, Deed
from imgcache_scrapy.core.selection import Selection
from imgcache_scrapy.engine.catalog import auditing, database
from imgcache_scrapy.engine.catalog.ages import age_and_order
from imgcache_scrapy.engine.catalog.database import database_call
from imgcache_scrapy.engine.catalog.functions import json_rows
from imgcache_scrapy.engine.catalog.listing import by_image, conditions
from imgcache_scrapy.engine.catalog.opening import OpenCatalog
from imgcache_scrapy.engine.catalog.paging import fetch_json
from imgcache_scrapy.engine.catalog.rows import digest, now
from imgcache_scrapy.engine.catalog.tables import blocked, capture, image
from imgcache_scrapy.engine.catalog.use_rows import delete_lost_uses

BATCH_SIZE = 400
"""Maximum number of captures that one transaction deletes."""

_other = capture.alias()
_has_capture = sa.exists().where(capture.c.content_hash == image.c.content_hash)


class Removable(NamedTuple):
    """A capture that may be deleted.

    Attributes:
        capture_id: the id of its row.
        content_hash: the hash of its image.
    """

    capture_id: int
    content_hash: str


class Removed(NamedTuple):
    """The result of one batch.

    Attributes:
        counts: what was deleted.
        images: the hashes of the images whose last capture was deleted.
    """

    counts: Counts
    images: list[str]


class Removals(OpenCatalog):
    """The queries of a catalog that delete captures."""

    @database_call
    def count_removal(self, selection: Selection) -> Counts:
        """Return what deleting the captures of a selection would delete."""
        with database.connect_for_reading(self._engine) as connection:
            selected = by_image().where(*_conditions(connection, selection)).subquery()
            total = (
                sa.select(sa.func.count())
                .select_from(_other)
                .where(_other.c.content_hash == selected.c.content_hash)
                .scalar_subquery()
            )
            goes = selected.c.captures == total
            size = sa.func.sum(selected.c.size).filter(goes)
            sums = (
                sa.func.coalesce(sa.func.sum(selected.c.captures), 0),
                sa.func.count().filter(goes),
                sa.func.coalesce(size, 0),
            )
            row = connection.execute(sa.select(*sums).select_from(selected)).one()
        return Counts(*map(int, row))

    @database_call
    def removable_after(self, selection: Selection, after: int) -> list[Removable]:
        """Return the next captures of a selection, at most `BATCH_SIZE`, in the order of their ids.

        Args:
            selection: the selection.
            after: the id after which they begin.
        """
        with database.connect_for_reading(self._engine) as connection:
            query = (
                sa.select(capture.c.id, capture.c.content_hash)
                .join(image)
                .where(*_conditions(connection, selection), capture.c.id > after)
                .order_by(capture.c.id)
                .limit(BATCH_SIZE)
                .subquery()
            )
            rows = fetch_json(connection, sa.select(json_rows(*query.c)))
        return sorted(Removable(*row) for row in rows)

    @database_call
    def remove(
        self,
        selection: Selection,
        batch: Sequence[Removable],
        *,
        block_reason: str | None = None,
        last_deed: tuple[Deed, Counts] | None = None,
    ) -> Removed:
        """Delete captures that are still in a selection, and the images whose last ones they are.

        The blobs of these images must be deleted afterwards.

        Args:
            selection: the selection.
            batch: the captures.
            block_reason: block the deleted images for this reason; None to block none.
            last_deed: with the last batch, the act to record, and what the batches before deleted.
        """
        names = sorted({each.content_hash for each in batch})
        with self.exclusive(names) as transaction:
            connection = transaction.connection
            deleted, gone = 0, {}
            if batch:
                deleted = _delete_captures(connection, selection, batch)
                delete_lost_uses(connection, names)
                gone = _delete_images(connection, names)
            if gone and block_reason is not None:
                _block(connection, list(gone), block_reason)
            counts = Counts(deleted, len(gone), sum(gone.values()))
            if last_deed is not None:
                deed, before = last_deed
                auditing.record(connection, deed, add(before, counts))
        return Removed(counts, list(gone))


def add(first: Counts, second: Counts) -> Counts:
    """Return the sums of both counts."""
    return Counts(*(a + b for a, b in zip(first, second, strict=True)))


def _conditions(connection: Connection, selection: Selection) -> list[sa.ColumnElement[bool]]:
    found = conditions(selection.filters, age_and_order(connection)[0][0])
    if selection.url is not None:
        digests = [digest(key) for key in selection.url.keys]
        found.append(capture.c.url_digest.in_(digests))
    return found


def _delete_captures(
    connection: Connection, selection: Selection, batch: Sequence[Removable]
) -> int:
    # The conditions again: a store may have renewed a capture since it was read.
    wanted = (
        sa.select(capture.c.id)
        .join(image)
        .where(
            capture.c.id.in_([each.capture_id for each in batch]),
            *_conditions(connection, selection),
        )
    )
    return connection.execute(capture.delete().where(capture.c.id.in_(wanted))).rowcount


def _delete_images(connection: Connection, names: list[str]) -> dict[str, int]:
    """Delete those of the images that have no capture; return their sizes in bytes."""
    of_these = (image.c.content_hash.in_(names), ~_has_capture)
    query = sa.select(image.c.content_hash, image.c.file_size_bytes).where(*of_these)
    gone = {row.content_hash: row.file_size_bytes for row in connection.execute(query)}
    if gone:
        connection.execute(image.delete().where(image.c.content_hash.in_(list(gone))))
    return gone


def _block(connection: Connection, names: list[str], reason: str) -> None:
    known = sa.select(blocked.c.content_hash).where(blocked.c.content_hash.in_(names))
    new = set(names) - set(connection.scalars(known))
    rows: list[dict[str, Any]] = [
        {"content_hash": name, "reason": reason, "created_at": now()} for name in sorted(new)
    ]
    if rows:
        connection.execute(blocked.insert(), rows)
