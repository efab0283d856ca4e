"""SpiderLogger: the log of a crawl; it adds the spider, and shows URLs so that no line breaks."""

import logging
from collections.abc import MutableMapping
from typing import TYPE_CHECKING, Any
from weakref import ref

from imgcache_scrapy.core.text import printable

if TYPE_CHECKING:
    from scrapy.crawler import Crawler


class SpiderLogger(logging.LoggerAdapter[logging.Logger]):
    """Adds the spider to each log record, as Scrapy does, and makes all arguments printable.

    Args:
        name: the name of the logger.
        crawler: the crawler of the crawl; only a weak reference to it is kept.
    """

    def __init__(self, name: str, crawler: "Crawler") -> None:
        super().__init__(logging.getLogger(name), {})
        self._crawler = ref(crawler)

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        """Write a log line; no argument can break it or put credentials into it."""
        if self.isEnabledFor(level):
            super().log(level, msg, *map(_shown, args), **kwargs)

    def process(
        self, msg: Any, kwargs: MutableMapping[str, Any]
    ) -> tuple[Any, MutableMapping[str, Any]]:
        """Add `spider` to the record's attributes."""
        crawler = self._crawler()
        return msg, {**kwargs, "extra": {"spider": None if crawler is None else crawler.spider}}


def _shown(argument: object) -> object:
    return argument if isinstance(argument, (int, float)) else printable(argument)
