"""StoreRequest and ClaimRequest: captures to record, with checked arguments."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Self

from imgcache_scrapy.core.blocked import Source, sources_of
from imgcache_scrapy.core.checks import checked_hash
from imgcache_scrapy.core.entry import content_hash_of
from imgcache_scrapy.core.errors import InvalidRequestError, TooLargeError
from imgcache_scrapy.core.keys import cache_key
from imgcache_scrapy.core.lazy import lazy_property
from imgcache_scrapy.core.limits import MAX_IMAGE_BYTES
from imgcache_scrapy.core.response_info import NO_RESPONSE, ResponseInfo
from imgcache_scrapy.core.times import in_utc
from imgcache_scrapy.core.urls import clean_filename, filename_of
from imgcache_scrapy.engine.catalog.rows import Capture


@dataclass(frozen=True, eq=False)
class CaptureRequest:
    """A capture to record."""

    capture: Capture

    @lazy_property
    def sources(self) -> set[Source]:
        """The hosts and URLs that the image comes from."""
        capture = self.capture
        return sources_of(capture.url, capture.key, capture.response.final_url)


@dataclass(frozen=True, eq=False)
class StoreRequest(CaptureRequest):
    """An image to store and its capture; create it with `StoreRequest.of`."""

    data: bytes

    @classmethod
    def of(cls, url: str, data: bytes, client_name: str, **options: Any) -> Self:
        """Check the arguments of a store.

        Args:
            url: the URL.
            data: the original bytes.
            client_name: the name of the client that stores the image.
            options: the other arguments of `capture_of`.

        Raises:
            InvalidRequestError: `data` is empty, or `lookup_time` cannot be converted to UTC.
            TooLargeError: `data` has more than `MAX_IMAGE_BYTES`.
        """
        if not data:
            raise InvalidRequestError("an image must not be empty")
        if len(data) > MAX_IMAGE_BYTES:
            raise TooLargeError(f"an image must not be larger than {MAX_IMAGE_BYTES} bytes")
        return cls(capture_of(url, client_name, **options), data)

    @lazy_property
    def content_hash(self) -> str:
        """The content hash of the bytes."""
        return content_hash_of(self.data)


@dataclass(frozen=True, eq=False)
class ClaimRequest(CaptureRequest):
    """A capture of an image whose bytes the cache should have; see `ClaimRequest.of`."""

    content_hash: str

    @classmethod
    def of(cls, url: str, content_hash: str, client_name: str, **options: Any) -> Self:
        """Check the arguments of a claim.

        Args:
            url: the URL.
            content_hash: the content hash of the image.
            client_name: the name of the client that fetched the image.
            options: the other arguments of `capture_of`.

        Raises:
            InvalidRequestError: the hash is not valid, or `lookup_time` cannot be converted to UTC.
        """
        return cls(capture_of(url, client_name, **options), checked_hash(content_hash))


def capture_of(
    url: str,
    client_name: str,
    *,
    key: str | None = None,
    bucket: str = "",
    lookup_time: datetime | None = None,
    filename: str | None = None,
    response: ResponseInfo = NO_RESPONSE,
) -> Capture:
    """Return the capture to record for a request.

    Args:
        url: the URL.
        client_name: the name of the client that fetched the image.
        key: the cache key; by default that of the URL.
        bucket: the name space of the capture.
        lookup_time: when the image was fetched; by default now. A naive time is UTC.
        filename: the original file name, of which `clean_filename` keeps the last part; by
            default the last part of the URL's path.
        response: what the site said.

    Raises:
        InvalidRequestError: `lookup_time` cannot be converted to UTC.
    """
    name = clean_filename(filename or "") or filename_of(url)
    key = key or cache_key(url)
    time, other_key = _utc(lookup_time), None if key == url else key
    return Capture(url, bucket, client_name, name, time, response, other_key)


def _utc(time: datetime | None) -> datetime:
    if time is None:
        return datetime.now(UTC)
    try:
        return in_utc(time)
    except OverflowError as error:
        raise InvalidRequestError(f"the lookup time {time} cannot be converted to UTC") from error
