"""ObjectBlobs: the blobs in an object store, by the library obstore."""

import os
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING, ClassVar

import obstore
from obstore.exceptions import BaseError
from obstore.store import from_url
from typing_extensions import override

from imgcache_scrapy.core.entry import THUMBNAILS, blob_key
from imgcache_scrapy.core.errors import (
    ConfigurationError,
    StoreFailedError,
    UnavailableError,
)
from imgcache_scrapy.core.forks import FORKED
from imgcache_scrapy.core.limits import MAX_IMAGE_BYTES
from imgcache_scrapy.engine.blobs.store import OWNER_KEY, BlobStore, Found

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig

# Maximum number of requests at a time.
_MAX_REQUESTS = 8
# The default of obstore is 180 s, which is too long for a crawl.
_TIMEOUT = timedelta(seconds=8)
_CLIENT_OPTIONS: "ClientConfig" = {
    "connect_timeout": timedelta(seconds=2),
    "timeout": _TIMEOUT,
    "allow_http": True,  # Only used if the user configured such an endpoint.
}
_RETRY_OPTIONS: "RetryConfig" = {"max_retries": 2, "retry_timeout": _TIMEOUT / 2}


class ObjectBlobs(BlobStore):
    """A blob store in an object store.

    Args:
        url: any URL that obstore supports.

    Raises:
        ConfigurationError: obstore does not support the URL; or this process was forked from one
            that used obstore, whose threads are missing here.
    """

    _process: ClassVar[int | None] = None

    def __init__(self, url: str) -> None:
        ObjectBlobs._process = ObjectBlobs._process or os.getpid()
        if ObjectBlobs._process != os.getpid():
            raise ConfigurationError(FORKED)
        try:
            self._store = from_url(url, client_options=_CLIENT_OPTIONS, retry_config=_RETRY_OPTIONS)
        except (BaseError, ValueError) as error:
            # Without the message of obstore, which quotes the URL and its password.
            raise ConfigurationError(
                "the blobs URL must be file:///folder, s3://bucket/prefix or another URL that"
                " obstore supports, with its options in the environment"
            ) from error
        self._threads = ThreadPoolExecutor(_MAX_REQUESTS, "imgcache-objects")

    @override
    def put_many(self, blobs: Mapping[str, bytes]) -> dict[str, StoreFailedError]:
        errors = self._threads.map(self._put, blobs.keys(), blobs.values())
        found = zip(blobs, errors, strict=True)
        failed = {name: error for name, error in found if error is not None}
        if len(failed) == len(blobs) > 0:
            self.check()
        return failed

    @override
    def get(self, content_hash: str) -> bytes | None:
        return self._read(blob_key(content_hash))

    @override
    def get_range(self, content_hash: str, start: int, stop: int) -> bytes | None:
        key = blob_key(content_hash)
        with _storage_errors():
            try:
                return obstore.get_range(self._store, key, start=start, end=stop).to_bytes()
            except FileNotFoundError:
                return None

    @override
    def sizes(self, content_hashes: Collection[str]) -> dict[str, int | None]:
        sizes = list(self._threads.map(self._size, content_hashes))
        if sizes and all(isinstance(size, UnavailableError) for size in sizes):
            self.check()
        found = zip(content_hashes, sizes, strict=True)
        return {name: None if isinstance(size, UnavailableError) else size for name, size in found}

    @override
    def discard_many(self, keys: Collection[str]) -> None:
        for _ in self._threads.map(self._discard, keys):
            pass

    @override
    def get_aside(self, key: str) -> bytes | None:
        return self._read(key)

    @override
    def put_aside(self, key: str, data: bytes) -> None:
        with _storage_errors():
            obstore.put(self._store, key, data, use_multipart=False)

    @override
    def scan_aside(self, folder: str) -> Iterator[Found]:
        return self._list(f"{folder}/")

    @override
    def scan(self, *, whole: bool = False) -> Iterator[Found]:
        for found in self._list():
            if found.key != OWNER_KEY and not found.key.startswith(f"{THUMBNAILS}/"):
                yield found

    @override
    def owner(self) -> str | None:
        data = self._read(OWNER_KEY)
        return None if data is None else data.decode(errors="replace").strip()

    @override
    def set_owner(self, cache_id: str) -> None:
        with _storage_errors():
            obstore.put(self._store, OWNER_KEY, cache_id.encode(), use_multipart=False)

    @override
    def check(self) -> None:
        with _storage_errors():
            next(iter(obstore.list(self._store, chunk_size=1)), None)

    @override
    def close(self) -> None:
        self._threads.shutdown()

    def _list(self, prefix: str | None = None) -> Iterator[Found]:
        with _storage_errors():
            for page in obstore.list(self._store, prefix):
                for each in page:
                    yield Found(each["path"], each["size"], each["last_modified"].timestamp())

    def _discard(self, key: str) -> None:
        with _storage_errors(), suppress(FileNotFoundError):
            obstore.delete(self._store, key)

    def _put(self, content_hash: str, data: bytes) -> StoreFailedError | None:
        try:
            with _storage_errors():
                # Overwriting is harmless, and much faster than creating only an absent object.
                obstore.put(self._store, blob_key(content_hash), data, use_multipart=False)
        except UnavailableError as error:
            failed = StoreFailedError(str(error))
            failed.__cause__ = error
            return failed
        return None

    def _read(self, key: str) -> bytes | None:
        with _storage_errors():
            try:
                found = obstore.get(self._store, key)
                if found.meta["size"] > MAX_IMAGE_BYTES:
                    raise UnavailableError(
                        f"the image storage failed: {key} is not an object that a cache has written"
                    )
                return found.bytes().to_bytes()
            except FileNotFoundError:
                return None

    def _size(self, content_hash: str) -> int | UnavailableError | None:
        try:
            with _storage_errors():
                return obstore.head(self._store, blob_key(content_hash))["size"]
        except UnavailableError as error:
            return None if isinstance(error.__cause__, FileNotFoundError) else error


@contextmanager
def _storage_errors() -> Iterator[None]:
    try:
        yield
    except (BaseError, OSError) as error:
        # Only the last part of the message, which quotes the address and the access key.
        reason = str(error).splitlines()[0].rsplit(" - ", 1)[-1].split("<", 1)[0]
        raise UnavailableError(f"the image storage failed: {reason}") from error
