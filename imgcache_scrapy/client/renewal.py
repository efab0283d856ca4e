"""Renew a capture, because its site says that the image has not changed."""

from datetime import UTC, datetime

from imgcache_scrapy.client.transport import Transport
from imgcache_scrapy.core.entry import Entry
from imgcache_scrapy.core.image_url import ImageUrl
from imgcache_scrapy.core.response_info import ResponseInfo


async def claim_again(
    cache: Transport,
    url: ImageUrl,
    entry: Entry,
    *,
    client_name: str,
    bucket: str,
    response: ResponseInfo,
) -> Entry | None:
    """Record that a URL still gives the image of an entry.

    Args:
        cache: the cache.
        url: the URL that was asked for.
        entry: the entry of the image.
        client_name: the name of the client that asked.
        bucket: the bucket of the capture.
        response: what the site said.

    Returns:
        The renewed entry. None if nothing was recorded, because the cache does not have the bytes
        of the image any more, or is a service without claims: see `supports_claims`.

    Raises:
        ImgCacheError: the cache failed, can only be read, or does not take the image.
    """
    return await cache.claim(
        url.url,
        entry["content_hash"],
        client_name,
        key=url.key,
        bucket=bucket,
        lookup_time=datetime.now(UTC),
        filename=entry["original_filename"],
        response=response,
    )
