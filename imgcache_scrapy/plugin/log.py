"""SpiderLogger: adds the spider to the log records of a crawl."""

import logging
from collections.abc import MutableMapping
from typing import TYPE_CHECKING, Any
from weakref import ref

if TYPE_CHECKING:
    from scrapy.crawler import Crawler


class SpiderLogger(logging.LoggerAdapter[logging.Logger]):
    """Adds the spider to each log record, as Scrapy does.

    Args:
        name: the name of the logger.
        crawler: the crawler of the crawl; only a weak reference to it is kept.
    """

    def __init__(self, name: str, crawler: "Crawler") -> None:
        super().__init__(logging.getLogger(name), {})
        self._crawler = ref(crawler)

    def process(
        self, msg: Any, kwargs: MutableMapping[str, Any]
    ) -> tuple[Any, MutableMapping[str, Any]]:
        """Add `spider` to the record's attributes."""
        crawler = self._crawler()
        return msg, {**kwargs, "extra": {"spider": None if crawler is None else crawler.spider}}
