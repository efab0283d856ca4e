"""One image cache in front of Scrapy's downloads."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from imgcache_scrapy.client.client import AsyncImgCacheClient, ImgCacheClient
    from imgcache_scrapy.core.entry import Entry
    from imgcache_scrapy.core.errors import (
        ConfigurationError,
        ImgCacheError,
        InvalidRequestError,
        NotFoundError,
        ProtocolError,
        TooLargeError,
        UnauthorizedError,
        UnavailableError,
    )
    from imgcache_scrapy.plugin.addon import Addon
    from imgcache_scrapy.plugin.drop_ins import ImgCacheFilesPipeline, ImgCacheImagesPipeline
    from imgcache_scrapy.plugin.middleware import ImgCacheMiddleware
    from imgcache_scrapy.plugin.pipeline import ImgCachePipeline
    from imgcache_scrapy.plugin.session import get_client

__all__ = [
    "Addon",
    "AsyncImgCacheClient",
    "ConfigurationError",
    "Entry",
    "ImgCacheClient",
    "ImgCacheError",
    "ImgCacheFilesPipeline",
    "ImgCacheImagesPipeline",
    "ImgCacheMiddleware",
    "ImgCachePipeline",
    "InvalidRequestError",
    "NotFoundError",
    "ProtocolError",
    "TooLargeError",
    "UnauthorizedError",
    "UnavailableError",
    "get_client",
]

_HOMES = {
    "plugin.addon": ["Addon"],
    "client.client": ["AsyncImgCacheClient", "ImgCacheClient"],
    "plugin.session": ["get_client"],
    "core.entry": ["Entry"],
    "core.errors": [name for name in __all__ if name.endswith("Error")],
    "plugin.middleware": ["ImgCacheMiddleware"],
    "plugin.pipeline": ["ImgCachePipeline"],
    "plugin.drop_ins": ["ImgCacheFilesPipeline", "ImgCacheImagesPipeline"],
}


def __getattr__(name: str) -> Any:
    """Import a public name's home when it is first asked for, so that importing is cheap."""
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *__all__]
