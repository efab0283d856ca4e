"""Record: an image that waits in the spool, and the format of its file."""

import json
from datetime import datetime
from typing import Any, NamedTuple, Self

from imgcache_scrapy.core.checks import checked_key, checked_text, checked_url
from imgcache_scrapy.core.entry import UNKNOWN_TYPE, Entry, content_hash_of
from imgcache_scrapy.core.errors import InvalidRequestError
from imgcache_scrapy.core.formats import sniff
from imgcache_scrapy.core.limits import MAX_IMAGE_BYTES, MAX_URL_BYTES
from imgcache_scrapy.core.response_info import NO_RESPONSE, ResponseInfo, is_converted
from imgcache_scrapy.core.times import in_utc
from imgcache_scrapy.core.urls import filename_of, without_fragment

# One byte of a text can take six bytes in JSON. There are three URLs: as asked, key and final.
MAX_HEADER_BYTES = 24 * MAX_URL_BYTES
"""Maximum size of the line of JSON at the start of a record."""
MAX_RECORD_BYTES = MAX_IMAGE_BYTES + MAX_HEADER_BYTES
"""Maximum size of a record; the cache would refuse a larger image."""


class DamagedRecordError(ValueError):
    """The file does not contain a complete record."""


class Record(NamedTuple):
    """An image that waits to be stored.

    Attributes:
        url: its URL.
        bucket: the name space.
        client_name: name of the client that stores it.
        lookup_time: when the image was fetched, UTC.
        data: the bytes of the image.
        cache: the cache that it waits for, as `cache_name` names it; None in a record of an older
            version, which any cache may take.
        key: the cache key of the URL; None in a record of an older version, which computed none.
        response: what the site said.
    """

    url: str
    bucket: str
    client_name: str
    lookup_time: datetime
    data: bytes
    cache: str | None = None
    key: str | None = None
    response: ResponseInfo = NO_RESPONSE

    @classmethod
    def unpacked(cls, content: bytes) -> Self:
        """Parse the content of a file: a line of JSON, then the bytes of the image.

        Raises:
            DamagedRecordError: the content is not a record.
        """
        line, _, data = content.partition(b"\n")
        try:
            fields: list[Any] = json.loads(line)
            url, bucket, client_name, fetched, cache, options = [*fields, None, None][:6]
            # Older versions did not remove the fragment.
            url = without_fragment(checked_url(url))
            key, response = _unpacked_options(url, options)
            return cls(
                url,
                checked_text("a bucket", bucket),
                checked_text("a client's name", client_name),
                in_utc(datetime.fromisoformat(fetched)),
                data,
                None if cache is None else checked_text("a cache", cache),
                key,
                response,
            )
        except (
            AttributeError,
            TypeError,
            ValueError,
            InvalidRequestError,
            KeyError,
            OverflowError,
            RecursionError,
        ) as error:
            raise DamagedRecordError("the file is not a record") from error

    def packed(self) -> bytes:
        """Return the content of the record's file."""
        fields: list[Any] = [self.url, self.bucket, self.client_name, self.lookup_time.isoformat()]
        options = {"key": self.key, **self.response._asdict()}
        if any(options.values()):
            fields += [self.cache, options]
        elif self.cache is not None:
            fields.append(self.cache)
        return b"%b\n%b" % (json.dumps(fields).encode(), self.data)

    def belongs_to(self, cache: str) -> bool:
        """Return whether this cache may take the record."""
        return self.cache in {None, cache}

    def entry(self) -> Entry:
        """Return an entry from what is known before the image is stored; it has no `created`."""
        fetched = self.lookup_time.isoformat()
        headers, final_url, _ = self.response
        entry: Entry = {
            "url": self.url,
            "key": self.key or self.url,
            "content_hash": content_hash_of(self.data),
            "content_type": sniff(self.data) or UNKNOWN_TYPE,
            "file_size_bytes": len(self.data),
            "original_filename": filename_of(self.url),
            "width": None,
            "height": None,
            "perceptual_hash": None,
            "client_name": self.client_name,
            "lookup_time": fetched,
            "created_at": fetched,
            "bucket": self.bucket,
        }
        if headers:
            entry["headers"] = dict(headers)
        if is_converted(headers):
            entry["converted"] = True
        if final_url:
            entry["final_url"] = final_url
        return entry


def _unpacked_options(url: str, options: dict[str, Any] | None) -> tuple[str | None, ResponseInfo]:
    if options is None:
        return None, NO_RESPONSE
    key, headers, final_url, accept = (
        options[name] for name in ("key", "headers", "final_url", "accept")
    )
    response = ResponseInfo.of(url, headers, final_url, accept)
    return None if key is None else checked_key(key), response
