"""RememberedFailures: the queries for URLs that gave no image, and need not be asked again yet."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from imgcache_scrapy.core.failures import MAX_SECONDS, Failure, SeenFailure
from imgcache_scrapy.core.pages import ListPage
from imgcache_scrapy.core.times import iso, microseconds
from imgcache_scrapy.core.urls import host_of
from imgcache_scrapy.engine.catalog import database
from imgcache_scrapy.engine.catalog.database import database_call
from imgcache_scrapy.engine.catalog.newest import captured_keys
from imgcache_scrapy.engine.catalog.opening import OpenCatalog
from imgcache_scrapy.engine.catalog.paging import count_of_fitting, page_size
from imgcache_scrapy.engine.catalog.rows import digest, failure_digest, now
from imgcache_scrapy.engine.catalog.tables import delete_failures, in_bucket, unlocked_failures
from imgcache_scrapy.engine.catalog.tables import failure as _failure

# Maximum number of expired rows that one write removes.
_MAX_EXPIRED = 1000
# The rows are counted again after this number of inserts, because others insert rows, too.
_INSERTS_BETWEEN_COUNTS = 10_000

_count = sa.select(sa.func.count()).select_from(_failure)
_known = sa.select(_failure).where(
    _failure.c.digest.in_(sa.bindparam("digests", expanding=True)),
    _failure.c.expires_at > sa.bindparam("at"),
    # A later time is that of a wrong clock.
    _failure.c.failed_at <= sa.bindparam("at"),
)
# The same text for both databases.
_remember = sa.text(
    "INSERT INTO failure"
    " (digest, bucket, url, host, reason, http_status, failed_at, expires_at)"
    " VALUES (:digest, :bucket, :url, :host, :reason, :http_status, :failed_at, :expires_at)"
    " ON CONFLICT (digest) DO UPDATE SET reason = excluded.reason,"
    " http_status = excluded.http_status, failed_at = excluded.failed_at,"
    " expires_at = excluded.expires_at"
)
_expired = (
    unlocked_failures.where(_failure.c.expires_at <= sa.bindparam("at"))
    .order_by(_failure.c.expires_at)
    .limit(_MAX_EXPIRED)
)
_oldest = unlocked_failures.order_by(_failure.c.failed_at).limit(sa.bindparam("count"))
_age = (_failure.c.failed_at, _failure.c.digest)


class RememberedFailures(OpenCatalog):
    """The queries of a catalog for failures.

    Attributes:
        max_failures: maximum number of failures that are kept; the oldest ones go.
    """

    max_failures = 1_000_000
    _inserts_left = 0

    @database_call
    def failures_of(self, urls: Iterable[str], bucket: str) -> dict[str, Failure]:
        """Return the failures of URLs that are still remembered, by URL.

        Args:
            urls: the URLs as they were asked, not their keys.
            bucket: the name space.
        """
        if not self._rare_rows.exist(_failure):
            return {}
        digests = [failure_digest(bucket, url) for url in urls]
        with database.connect_for_reading(self._engine) as connection:
            rows = connection.execute(_known, {"digests": digests, "at": now()}).all()
        return {row.url: _failure_of(row) for row in rows}

    @database_call
    def remember_failures(self, failures: Sequence[SeenFailure], bucket: str) -> None:
        """Remember failures, except those of a key that has a sound image in the bucket.

        Some expired failures are removed, and the oldest ones if there are too many.
        """
        at = now()
        with self.exclusive([]) as transaction:
            connection = transaction.connection
            keys = [key for each in failures for key in each.url.keys]
            captured = captured_keys(connection, keys, bucket)
            rows = {
                failure_digest(bucket, each.url.url): _row(each, bucket, at)
                for each in failures
                if captured.isdisjoint(map(digest, each.url.keys))
            }
            if rows:
                # Every transaction changes the rows in the same order, which prevents deadlocks.
                values = [rows[each] | {"digest": each} for each in sorted(rows)]
                connection.execute(_remember, values)
            connection.execute(delete_failures(_expired), {"at": at})
            self._remove_oldest(connection, len(rows))
        self._rare_rows.note_insert(_failure)

    @database_call
    def failures_page(
        self,
        host: str | None = None,
        since: datetime | None = None,
        bucket: str | None = None,
        limit: int | None = None,
        after: str | None = None,
    ) -> ListPage[Failure]:
        """Return some of the failures that are still remembered, newest first.

        Args:
            host: only those of this host; None for all.
            since: only those from this time on; None for all.
            bucket: the bucket to look in; None for all buckets.
            limit: maximum number of failures; None for a whole page.
            after: the position after which the page begins; None for the first page.
        """
        wanted = page_size(limit)
        query = in_bucket(sa.select(_failure), bucket, _failure)
        query = query.where(_failure.c.expires_at > now())
        if host is not None:
            query = query.where(_failure.c.host == host.lower())
        if since is not None:
            query = query.where(_failure.c.failed_at >= microseconds(since))
        if after is not None:
            failed_at, its_digest = after.split("_")
            position = sa.tuple_(int(failed_at), bytes.fromhex(its_digest))
            query = query.where(sa.tuple_(*_age) < position)
        query = query.order_by(*(column.desc() for column in _age)).limit(wanted + 1)
        with database.connect_for_reading(self._engine) as connection:
            rows = connection.execute(query).all()
        count = count_of_fitting(len(row.url) + len(row.bucket) for row in rows[:wanted])
        last = rows[count - 1] if len(rows) > count else None
        return ListPage(
            [_failure_of(row) for row in rows[:count]],
            None if last is None else f"{last.failed_at}_{last.digest.hex()}",
        )

    def _remove_oldest(self, connection: Connection, inserted: int) -> None:
        """Remove the oldest failures if there are too many; they are counted from time to time."""
        self._inserts_left -= inserted
        if self._inserts_left > 0:
            return
        room = self.max_failures - (connection.scalar(_count) or 0)
        if room < 0:
            connection.execute(delete_failures(_oldest), {"count": -room})
        self._inserts_left = min(max(room, 0), _INSERTS_BETWEEN_COUNTS)


def _row(failure: SeenFailure, bucket: str, at: int) -> dict[str, Any]:
    """Return the row of a failure, without its digest."""
    seconds = min(failure.seconds, MAX_SECONDS)
    return {
        "bucket": bucket,
        "url": failure.url.url,
        "host": host_of(failure.url.url),
        "reason": failure.reason,
        "http_status": failure.http_status,
        "failed_at": at,
        "expires_at": at + int(seconds * 1e6),
    }


def _failure_of(row: Row[Any]) -> Failure:
    return {
        "url": row.url,
        "bucket": row.bucket,
        "reason": row.reason,
        "http_status": row.http_status,
        "failed_at": iso(row.failed_at),
        "expires_at": iso(row.expires_at),
    }
