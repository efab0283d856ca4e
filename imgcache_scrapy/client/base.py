"""ClientBase: how a client reaches its cache, and which bucket its calls use."""

from collections.abc import Callable
from os import PathLike, fspath
from typing import TYPE_CHECKING, Any

from imgcache_scrapy.client.address import SERVICE_URL, folder_of
from imgcache_scrapy.client.embedded import embedded_transport
from imgcache_scrapy.client.transport import Transport
from imgcache_scrapy.core.checks import checked_text, checked_timeout, checked_token
from imgcache_scrapy.core.errors import ConfigurationError
from imgcache_scrapy.core.fetch_rules import DEFAULT_FETCH_RULES, FetchRules
from imgcache_scrapy.core.forks import no_fork
from imgcache_scrapy.core.image_url import ImageUrl
from imgcache_scrapy.core.keys import cache_key

if TYPE_CHECKING:
    import httpx


class ClientBase:
    """The base of `AsyncImgCacheClient`, which documents the arguments and attributes."""

    def __init__(
        self,
        base_url: str | PathLike[str],
        timeout: float | None = 30.0,
        *,
        token: str | None = None,
        bucket: str = "",
        transport: "httpx.AsyncBaseTransport | None" = None,
        key_of: Callable[[str], str] = cache_key,
        max_bytes: int | None = None,
        fetch_rules: FetchRules = DEFAULT_FETCH_RULES,
    ) -> None:
        checked_token(token)
        checked_timeout(timeout)
        base_url = fspath(base_url)
        folder = folder_of(base_url) if transport is None else None
        address = base_url if folder is None else str(folder)
        self._arguments = (address, timeout)
        self._options: dict[str, Any] = {
            "token": token,
            "bucket": bucket,
            "transport": transport,
            "key_of": key_of,
            "max_bytes": max_bytes,
            "fetch_rules": fetch_rules,
        }
        if max_bytes is not None and folder is None:
            raise ConfigurationError(
                "max_bytes (IMGCACHE_MAX_BYTES) limits an embedded cache only: run `imgcache prune`"
                " beside the service"
            )
        self._key_of = key_of
        self._fetch_rules = fetch_rules
        self._base = (base_url if folder is None else SERVICE_URL).rstrip("/")
        self._bucket = bucket
        self._is_closed = False
        self.transport: Transport = (
            _http_transport(self._base, timeout, token, transport)
            if folder is None
            else embedded_transport(folder, timeout, max_bytes)
        )

    def _image_url(self, url: str, key: str | None) -> ImageUrl:
        return ImageUrl.of(url, key, self._key_of)

    def _bucket_or_own(self, bucket: str | None) -> str:
        return checked_text("a bucket", self._bucket if bucket is None else bucket)

    def _bucket_or_all(self, bucket: str | None) -> str | None:
        return None if bucket is None and not self._bucket else self._bucket_or_own(bucket)


def _http_transport(*args: Any) -> Transport:
    # Imported here, because an embedded cache needs no HTTP.
    with no_fork:
        from imgcache_scrapy.client.http import HttpTransport  # noqa: PLC0415

    return HttpTransport(*args)
