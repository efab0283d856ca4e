"""Decide which requests the cache must not be used for."""

from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary, ref

from scrapy import Request
from scrapy.utils.request import RequestFingerprinter, RequestFingerprinterProtocol

from imgcache_scrapy.core.errors import InvalidRequestError
from imgcache_scrapy.core.keys import has_user
from imgcache_scrapy.plugin import meta
from imgcache_scrapy.plugin.log import SpiderLogger

if TYPE_CHECKING:
    from scrapy.crawler import Crawler


class Bypass:
    """Decides for which requests of a crawl the cache must not be used.

    Args:
        crawler: the crawler of the crawl; only a weak reference to it is kept.
        log: the log of the crawl.
    """

    def __init__(self, crawler: "Crawler", log: SpiderLogger) -> None:
        self._crawler = ref(crawler)
        self._log = log
        self._has_told = self._has_told_error = False
        # Decided once: middlewares add headers to a request.
        self._named_by_url: WeakKeyDictionary[Request, bool] = WeakKeyDictionary()

    def applies(self, request: Request) -> bool:
        """Return whether the cache must not be used for this request."""
        return bypasses_cache(request) or not self.is_named_by_url(request)

    def tell(self, request: Request, error: InvalidRequestError) -> None:
        """Tell once why the cache cannot be used: because of a URL, or a key that is named."""
        if not self._has_told_error:
            self._has_told_error = True
            self._log.warning("The cache is not used for requests such as %s: %s", request, error)

    def is_named_by_url(self, request: Request) -> bool:
        """Return whether a request is for what its URL names, so that its URL can be compared.

        It is a GET that names its key; or it has no body, and a fingerprinter of the project does
        not tell it from others with its URL.
        """
        if request.method != "GET":
            return False
        if meta.KEY in request.meta:
            return True
        if request.body:
            return False
        crawler = self._crawler()
        fingerprinter = None if crawler is None else crawler.request_fingerprinter
        if fingerprinter is None or type(fingerprinter) is RequestFingerprinter:
            return True
        known = self._named_by_url.get(request)
        if known is None:
            known = self._named_by_url[request] = _is_as_plain(request, fingerprinter)
        if not known and not self._has_told:
            self._has_told = True
            self._log.info(
                "The cache is not used for requests such as %s: REQUEST_FINGERPRINTER_CLASS tells"
                " such requests apart from others with the same URL",
                request.url,
            )
        return known


def bypasses_cache(request: Request) -> bool:
    """Return whether a request says itself that the cache must not be used for it.

    What a user and a password give is private, unless the request says that the cache may have it.
    A file of this machine is another one on the next machine, and may have changed.
    """
    is_local = request.url[:5].lower() == "file:"
    is_private = has_user(request.url) and not request.meta.get(meta.CACHE)
    is_whole = request.method == "GET" and b"Range" not in request.headers
    is_ours = meta.REPEATED in request.meta
    dont_cache = bool(request.meta.get(meta.DONT_CACHE)) and not is_ours
    is_forbidden = dont_cache or request.meta.get(meta.CACHE) is False
    return is_local or not is_whole or is_forbidden or is_private


def _is_as_plain(request: Request, fingerprinter: RequestFingerprinterProtocol) -> bool:
    plain = Request(request.url, request.callback)
    try:
        return fingerprinter.fingerprint(plain) == fingerprinter.fingerprint(request)
    except Exception:
        return False
