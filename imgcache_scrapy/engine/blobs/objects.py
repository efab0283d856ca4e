"""The blobs in an object store, through obstore."""

from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

import obstore
from obstore.exceptions import BaseError
from obstore.store import from_url
from typing_extensions import override

from imgcache_scrapy.core.entry import blob_key
from imgcache_scrapy.core.errors import ConfigurationError, UnavailableError
from imgcache_scrapy.engine.blobs.store import OWNER_KEY, BlobStore, Found

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig

# Maximum number of requests at a time.
_CALLS = 8
# The library's own default is 180 s.
_DEADLINE = timedelta(seconds=8)
_CLIENT: "ClientConfig" = {
    "connect_timeout": timedelta(seconds=2),
    "timeout": _DEADLINE,
    "allow_http": True,  # such an endpoint is only used where the user named it
}
_RETRY: "RetryConfig" = {"max_retries": 2, "retry_timeout": _DEADLINE / 2}


class ObjectBlobs(BlobStore):
    """A blob store in an object store.

    Args:
        url: any that obstore knows.

    Raises:
        ConfigurationError: obstore does not know such a URL.
    """

    def __init__(self, url: str) -> None:
        try:
            self._store = from_url(url, client_options=_CLIENT, retry_config=_RETRY)
        except (BaseError, ValueError) as error:
            # Without the library's message, which quotes the URL and the password in it.
            raise ConfigurationError(
                "the blobs URL must be file:///folder, s3://bucket/prefix or another that obstore"
                " knows, with its options in the environment"
            ) from error
        self._threads = ThreadPoolExecutor(_CALLS, "imgcache-objects")

    @override
    def put(self, content_hash: str, data: bytes) -> None:
        with _failures():
            # Overwriting is harmless, and far faster than a put that only creates.
            obstore.put(self._store, blob_key(content_hash), data, use_multipart=False)

    @override
    def put_many(self, blobs: Mapping[str, bytes]) -> None:
        list(self._threads.map(self.put, blobs.keys(), blobs.values()))

    @override
    def get(self, content_hash: str) -> bytes | None:
        return self._read(blob_key(content_hash))

    @override
    def sizes(self, content_hashes: Collection[str]) -> dict[str, int | None]:
        sizes = self._threads.map(self._size, content_hashes)
        return dict(zip(content_hashes, sizes, strict=True))

    @override
    def delete(self, content_hash: str) -> None:
        self.discard(blob_key(content_hash))

    @override
    def discard(self, key: str) -> None:
        with _failures():
            try:
                obstore.delete(self._store, key)
            except FileNotFoundError:
                return

    @override
    def scan(self) -> Iterator[Found]:
        with _failures():
            for page in obstore.list(self._store):
                for each in page:
                    if each["path"] != OWNER_KEY:
                        yield Found(each["path"], each["size"], each["last_modified"].timestamp())

    @override
    def owner(self) -> str | None:
        data = self._read(OWNER_KEY)
        return None if data is None else data.decode(errors="replace").strip()

    @override
    def set_owner(self, cache_id: str) -> None:
        with _failures():
            obstore.put(self._store, OWNER_KEY, cache_id.encode(), use_multipart=False)

    @override
    def check(self) -> None:
        with _failures():
            next(iter(obstore.list(self._store, chunk_size=1)), None)

    @override
    def close(self) -> None:
        self._threads.shutdown()

    def _read(self, key: str) -> bytes | None:
        with _failures():
            try:
                return obstore.get(self._store, key).bytes().to_bytes()
            except FileNotFoundError:
                return None

    def _size(self, content_hash: str) -> int | None:
        with _failures():
            try:
                return obstore.head(self._store, blob_key(content_hash))["size"]
            except FileNotFoundError:
                return None


@contextmanager
def _failures() -> Iterator[None]:
    try:
        yield
    except (BaseError, OSError) as error:
        # Only a part of the library's message, which quotes the address and the access key.
        reason = str(error).splitlines()[0].rsplit(" - ", 1)[-1].split("<", 1)[0]
        raise UnavailableError(f"the image storage failed: {reason}") from error
