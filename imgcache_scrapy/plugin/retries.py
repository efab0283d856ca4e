"""Retries: tells whether Scrapy will send a failed request again."""

from typing import TYPE_CHECKING

from scrapy import Request
from scrapy.downloadermiddlewares.retry import RetryMiddleware
from scrapy.http import Response

from imgcache_scrapy.plugin import meta

if TYPE_CHECKING:
    from scrapy.crawler import Crawler


class Retries:
    """Knows the rules of the crawl's RetryMiddleware, which is called after the cache's.

    Args:
        crawler: the crawler of the crawl.
    """

    def __init__(self, crawler: "Crawler") -> None:
        self._crawler = crawler

    def will_follow(self, request: Request, result: Response | Exception) -> bool:
        """Return whether a request will be sent again.

        Args:
            request: the request.
            result: the response to it, or the error.
        """
        retry = self._crawler.get_downloader_middleware(RetryMiddleware)
        if retry is None or request.meta.get(meta.DONT_RETRY, False):
            return False
        if isinstance(result, Response):
            is_retried = result.status in retry.retry_http_codes
        else:
            is_retried = isinstance(result, retry.exceptions_to_retry)
        max_times = request.meta.get(meta.MAX_RETRY_TIMES, retry.max_retry_times)
        return is_retried and request.meta.get(meta.RETRY_TIMES, 0) < max_times
