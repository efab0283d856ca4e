"""MaxAges: tells how old a capture may be for a request."""

from typing import TypeVar

from scrapy import Request

from imgcache_scrapy.core.errors import InvalidRequestError
from imgcache_scrapy.core.freshness import FreshnessRules, checked_max_age
from imgcache_scrapy.core.text import quoted
from imgcache_scrapy.plugin import meta
from imgcache_scrapy.plugin.log import SpiderLogger

T = TypeVar("T")


class MaxAges:
    """Finds maximum ages in the meta of requests and in the settings.

    Args:
        rules: the rules of the settings.
        log: the log of the crawl.
    """

    def __init__(self, rules: FreshnessRules, log: SpiderLogger) -> None:
        self._rules = rules
        self._log = log
        self._has_told = False

    def of(self, request: Request, url: str, default: T) -> float | T | None:
        """Return the maximum age of a capture in seconds; None for no limit.

        Args:
            request: the request.
            url: its URL.
            default: what to return if neither the request nor a setting names an age.
        """
        if meta.MAX_AGE in request.meta:
            try:
                return checked_max_age(request.meta[meta.MAX_AGE])
            except InvalidRequestError:
                self._tell(request.meta[meta.MAX_AGE])
        return self._rules.max_age(url, default)

    def _tell(self, value: object) -> None:
        """Tell once that the age of a request is wrong."""
        if not self._has_told:
            self._has_told = True
            self._log.error(
                "request.meta[%r] must be a number of seconds, 0 or more, or None, not %s: it is"
                " ignored",
                meta.MAX_AGE,
                quoted(value),
            )
