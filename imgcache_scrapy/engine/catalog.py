"""The catalog: every query on images and captures, for SQLite and PostgreSQL alike."""

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine, RowMapping

from imgcache_scrapy.engine import dialects
from imgcache_scrapy.engine.similarity import BAND_COUNT, band_candidates, bands
from imgcache_scrapy.engine.tables import SCHEMA
from imgcache_scrapy.engine.tables import capture as _capture
from imgcache_scrapy.engine.tables import image as _image
from imgcache_scrapy.engine.tables import metadata as _metadata
from imgcache_scrapy.engine.tables import schema as _schema
from imgcache_scrapy.errors import ConfigurationError

_SCHEMA_LOCK = "0" * 64

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_bands = [_image.c[f"band{i}"] for i in range(BAND_COUNT)]
_newest_last = (_capture.c.lookup_time, _capture.c.id)
_newest_first = (_capture.c.lookup_time.desc(), _capture.c.id.desc())
_entries = sa.select(
    _capture, *(column for column in _image.c if column.name != "content_hash")
).join(_image)

# Built once: building a statement costs more than running it.
_find_image = sa.select(
    _image.c.content_hash,
    _image.c.content_type,
    _image.c.file_size_bytes,
    _image.c.width,
    _image.c.height,
    _image.c.perceptual_hash,
).where(_image.c.content_hash == sa.bindparam("its_hash"), ~_image.c.damaged)
_damage = sa.select(_image.c.damaged).where(_image.c.content_hash == sa.bindparam("its_hash"))
_update_image = _image.update().where(_image.c.content_hash == sa.bindparam("its_hash"))
_insert_image = _image.insert()
_insert_capture = _capture.insert()
_newest_capture = (
    sa.select(_capture.c.id, _capture.c.content_hash, _capture.c.lookup_time)
    .where(
        _capture.c.url_digest == sa.bindparam("digest"),
        _capture.c.bucket == sa.bindparam("its_bucket"),
    )
    .order_by(*_newest_first)
    .limit(1)
)
_entry_of_capture = _entries.where(_capture.c.id == sa.bindparam("capture_id"))
_newest = _entries.where(
    _capture.c.url_digest.in_(sa.bindparam("digests", expanding=True))
).order_by(*_newest_last)
_newest_in_bucket = _newest.where(_capture.c.bucket == sa.bindparam("its_bucket"))


class Image(NamedTuple):
    """What the catalog knows of an image.

    Attributes:
        content_hash: BLAKE2b-256 of the bytes, 64 hex digits.
        content_type: by the bytes' magic.
        file_size_bytes: length of the bytes.
        width: pixels as displayed, None where not decoded.
        height: pixels as displayed, None where not decoded.
        perceptual_hash: 16 hex digits, None where not decoded.
    """

    content_hash: str
    content_type: str
    file_size_bytes: int
    width: int | None
    height: int | None
    perceptual_hash: str | None


class Capture(NamedTuple):
    """One observation, "this URL gave this image then", to be recorded.

    Attributes:
        url: the cache key of the URL.
        bucket: the name space.
        client_name: who saw it.
        original_filename: a hint.
        lookup_time: when it was seen.
    """

    url: str
    bucket: str
    client_name: str
    original_filename: str | None
    lookup_time: datetime


class Catalog:
    """Every table and query of the cache.

    Args:
        database_url: where the tables are, as SQLAlchemy writes it; an empty database gets them.

    Raises:
        ConfigurationError: the database was written by a newer version.
    """

    def __init__(self, database_url: str | sa.URL) -> None:
        self._engine: Engine = dialects.create_engine(database_url)
        self._writers = dialects.queue_of_writers(self._engine)
        with self._engine.begin() as connection:
            dialects.lock(connection, _SCHEMA_LOCK)
            _metadata.create_all(connection)
            found = connection.scalar(sa.select(_schema.c.number))
            if found is None:
                connection.execute(_schema.insert().values(number=SCHEMA))
        if found is not None and found > SCHEMA:
            self.close()
            raise ConfigurationError(
                f"the catalog has schema {found}, this imgcache-scrapy knows {SCHEMA}: upgrade it"
            )

    @contextmanager
    def exclusive(self, content_hash: str) -> "Iterator[Writing]":
        """Open a transaction in which nobody else puts or unlinks the blob of this image.

        It is committed, and durable, when the block ends; an exception rolls it back.
        """
        with self._writers, self._engine.begin() as connection:
            dialects.lock(connection, content_hash)
            yield Writing(connection, content_hash)

    def image(self, content_hash: str) -> Image | None:
        """Find an image that is not damaged."""
        with dialects.reading(self._engine) as connection:
            row = connection.execute(_find_image, {"its_hash": content_hash}).first()
        return None if row is None else Image(*row)

    def newest(self, urls: Iterable[str], bucket: str | None = None) -> dict[str, dict[str, Any]]:
        """Find the newest capture of each URL, by lookup time, then by insertion.

        Args:
            urls: cache keys.
            bucket: where to look, None for everywhere.

        Returns:
            URL to entry, for those that lead to an image that is not damaged.
        """
        query = _newest if bucket is None else _newest_in_bucket
        values = {"digests": [_digest(url) for url in urls], "its_bucket": bucket}
        with dialects.reading(self._engine) as connection:
            rows = connection.execute(query, values).mappings().all()
        newest = {row["url"]: row for row in rows}
        return {url: _entry(row) for url, row in newest.items() if not row["damaged"]}

    def newest_of_image(self, content_hash: str, bucket: str | None) -> dict[str, Any] | None:
        """Find the newest capture of an image that is not damaged, in a bucket or anywhere."""
        return self._newest_of_images([content_hash], bucket).get(content_hash)

    def search(
        self, url_contains: str, bucket: str | None = None, limit: int | None = None
    ) -> list[dict[str, Any]]:
        """Find captures by a part of their URL, case-sensitive and literal.

        Returns:
            The newest capture of each URL, newest first.
        """
        rank = sa.func.row_number().over(partition_by=_capture.c.url_digest, order_by=_newest_first)
        matching = _in_bucket(
            sa.select(_capture.c.id, rank.label("rank")).where(
                dialects.contains(_capture.c.url, url_contains)
            ),
            bucket,
        ).subquery()
        newest = sa.select(matching.c.id).where(matching.c.rank == 1)
        query = _entries.where(_capture.c.id.in_(newest), ~_image.c.damaged)
        with dialects.reading(self._engine) as connection:
            rows = connection.execute(query.order_by(*_newest_first).limit(limit)).mappings()
            return [_entry(row) for row in rows]

    def similar(
        self,
        perceptual_hash: int,
        max_distance: int,
        bucket: str | None = None,
        limit: int | None = None,
    ) -> list[dict[str, Any]]:
        """Find the images whose perceptual hash is near, by exact multi-index hashing.

        Norouzi, Punjani and Fleet, "Fast search in Hamming space with multi-index hashing",
        CVPR 2012: two hashes that differ in few bits agree closely in one of their bands.

        Args:
            perceptual_hash: 64 bits.
            max_distance: how many bits may differ, 0 to 64.
            bucket: only images with a capture there, None for all.
            limit: at most so many, None for all.

        Returns:
            One entry per image, its newest capture, with its distance, nearest first.
        """
        query = sa.select(_image.c.content_hash, _image.c.perceptual_hash).where(
            _image.c.perceptual_hash.is_not(None), ~_image.c.damaged
        )
        candidates = band_candidates(perceptual_hash, max_distance)
        if candidates is not None:
            near = zip(_bands, candidates, strict=True)
            query = query.where(sa.or_(*(band.in_(values) for band, values in near)))
        with dialects.reading(self._engine) as connection:
            distances = {
                found: (int(text, 16) ^ perceptual_hash).bit_count()
                for found, text in connection.execute(query)
            }
        nearest = sorted(
            (distance, found) for found, distance in distances.items() if distance <= max_distance
        )
        entries = self._newest_of_images([found for _, found in nearest], bucket)
        return [
            {**entries[found], "distance": distance}
            for distance, found in nearest
            if found in entries
        ][:limit]

    def totals(self) -> dict[str, int]:
        """Count images, captures, bytes and damaged images."""
        query = sa.select(
            sa.func.count().label("images"),
            sa.func.coalesce(sa.func.sum(_image.c.file_size_bytes), 0).label("bytes"),
            sa.func.count().filter(_image.c.damaged).label("damaged"),
            sa.select(sa.func.count()).select_from(_capture).scalar_subquery().label("captures"),
        )
        with dialects.reading(self._engine) as connection:
            return {
                key: int(value) for key, value in connection.execute(query).mappings().one().items()
            }

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()

    def _newest_of_images(
        self, content_hashes: list[str], bucket: str | None
    ) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = {}
        with dialects.reading(self._engine) as connection:
            for start in range(0, len(content_hashes), 500):
                some = content_hashes[start : start + 500]
                query = _in_bucket(_entries.where(_capture.c.content_hash.in_(some)), bucket)
                rows = connection.execute(
                    query.where(~_image.c.damaged).order_by(*_newest_last)
                ).mappings()
                found.update((row["content_hash"], _entry(row)) for row in rows)
        return found


class Writing:
    """One transaction on one image; made by `Catalog.exclusive`."""

    def __init__(self, connection: Connection, content_hash: str) -> None:
        self._connection = connection
        self._hash = content_hash

    @cached_property
    def is_damaged(self) -> bool | None:
        """Whether the image was damaged when the transaction began; None where it had no row."""
        return self._connection.scalar(_damage, {"its_hash": self._hash})

    def has_image(self) -> bool:
        """Tell whether the image has a row, damaged or not."""
        return self.is_damaged is not None

    def put_image(self, image: Image) -> bool:
        """Record the image, or heal it where it was damaged.

        Returns:
            Whether it is new.
        """
        is_new = self.is_damaged is None
        if is_new or self.is_damaged:
            values = image._asdict() | {"damaged": False} | _band_values(image.perceptual_hash)
            statement = _insert_image if is_new else _update_image
            self._connection.execute(statement, values | {"its_hash": self._hash})
        return is_new

    def put_capture(self, capture: Capture) -> dict[str, Any]:
        """Record the capture, or renew the URL's newest one when it led to the same image.

        Returns:
            The entry.
        """
        digest, seen = _digest(capture.url), _microseconds(capture.lookup_time)
        newest = self._connection.execute(
            _newest_capture, {"digest": digest, "its_bucket": capture.bucket}
        ).first()
        if newest is not None and newest.content_hash == self._hash:
            renewed = capture._asdict() | {"lookup_time": max(seen, newest.lookup_time)}
            self._connection.execute(
                _capture.update().where(_capture.c.id == newest.id).values(renewed)
            )
            return self._entry_of(newest.id)
        values = capture._asdict() | {
            "url_digest": digest,
            "content_hash": self._hash,
            "lookup_time": seen,
            "created_at": _microseconds(datetime.now(UTC)),
        }
        inserted = self._connection.execute(_insert_capture, values)
        return self._entry_of(inserted.inserted_primary_key[0])  # type: ignore[index]

    def mark_damaged(self) -> None:
        """Make the image a miss until it is stored again."""
        self._connection.execute(
            _image.update().where(_image.c.content_hash == self._hash).values(damaged=True)
        )

    def delete_captures(self, bucket: str) -> int:
        """Forget a bucket's captures of the image, and the image with its last capture.

        Returns:
            How many captures there were.
        """
        here = _capture.c.content_hash == self._hash
        deleted = self._connection.execute(
            _capture.delete().where(here, _capture.c.bucket == bucket)
        ).rowcount
        if not self._connection.scalar(sa.select(sa.exists().where(here))):
            self._connection.execute(_image.delete().where(_image.c.content_hash == self._hash))
        return deleted

    def _entry_of(self, capture_id: int) -> dict[str, Any]:
        row = self._connection.execute(_entry_of_capture, {"capture_id": capture_id})
        return _entry(row.mappings().one())


def _in_bucket(query: sa.Select[Any], bucket: str | None) -> sa.Select[Any]:
    return query if bucket is None else query.where(_capture.c.bucket == bucket)


def _digest(url: str) -> bytes:
    return hashlib.blake2b(url.encode(), digest_size=16).digest()


def _band_values(perceptual_hash: str | None) -> dict[str, int | None]:
    found = [None] * BAND_COUNT if perceptual_hash is None else bands(int(perceptual_hash, 16))
    return {f"band{i}": value for i, value in enumerate(found)}


def _microseconds(time: datetime) -> int:
    return (time - _EPOCH) // timedelta(microseconds=1)


def _iso(microseconds: int) -> str:
    return (_EPOCH + timedelta(microseconds=microseconds)).isoformat()


_TRAVELS = (
    "url", "content_hash", "content_type", "file_size_bytes", "original_filename",
    "width", "height", "perceptual_hash", "client_name", "bucket",
)  # fmt: skip


def _entry(row: RowMapping) -> dict[str, Any]:
    entry = {name: row[name] for name in _TRAVELS}
    entry["lookup_time"] = _iso(row["lookup_time"])
    entry["created_at"] = _iso(row["created_at"])
    return entry
