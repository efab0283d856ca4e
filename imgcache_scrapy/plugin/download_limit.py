"""Give up the download of an image that is larger than the cache accepts."""

from typing import TYPE_CHECKING

from scrapy import Request
from scrapy.exceptions import DownloadCancelledError, IgnoreRequest

from imgcache_scrapy.plugin import meta

if TYPE_CHECKING:
    from scrapy.crawler import Crawler


def limit_download(request: Request, crawler: "Crawler", max_bytes: int) -> int:
    """Let Scrapy give up a download at a size; a smaller limit of the user stays.

    Args:
        request: the request of the download; the limit is put into its meta.
        crawler: the crawler of the crawl.
        max_bytes: the size in bytes.

    Returns:
        The limit that holds, in bytes.
    """
    limit: int | None = request.meta.get(meta.MAX_SIZE)
    if limit is None:
        setting = crawler.settings.getint("DOWNLOAD_MAXSIZE")
        limit = getattr(crawler.spider, "download_maxsize", setting)
    # For Scrapy, 0 means no limit.
    request.meta[meta.MAX_SIZE] = min(limit or max_bytes, max_bytes)
    return int(request.meta[meta.MAX_SIZE])


def exceeds_limit(error: Exception) -> bool:
    """Return whether Scrapy gave up a download because of its size."""
    if isinstance(error, DownloadCancelledError):
        # The message is empty if the size was not announced. Nothing else in Scrapy cancels a
        # download in this way.
        return not str(error) or "max size" in str(error)
    return isinstance(error, IgnoreRequest) and "exceeded DOWNLOAD_MAXSIZE" in str(error)
