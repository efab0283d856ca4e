"""Outcome: the fate of an image URL and what belongs to it, decided once by pure functions."""

from typing import Literal, NamedTuple, Self

from scrapy.exceptions import (
    CannotResolveHostError,
    DownloadConnectionRefusedError,
    DownloadTimeoutError,
    IgnoreRequest,
    ResponseDataLossError,
)
from scrapy.http import Response
from scrapy.pipelines.images import ImageException

from imgcache_scrapy.core.admission import MESSAGES, Reason
from imgcache_scrapy.core.entry import Entry
from imgcache_scrapy.core.errors import BlockedError, ImgCacheError, blocked_source
from imgcache_scrapy.core.failures import Failure
from imgcache_scrapy.core.no_image import (
    OFFLINE,
    TOO_LARGE,
    NoImage,
    by_failure,
    by_refusal,
    by_status,
)
from imgcache_scrapy.core.text import printable
from imgcache_scrapy.plugin.download_limit import exceeds_limit
from imgcache_scrapy.plugin.responses import is_from_cache

Fate = Literal["hit", "stored", "duplicate", "revalidated", "spooled", "rejected", "failed"]


class OfflineError(IgnoreRequest):
    """The image is not in the cache, and `IMGCACHE_MODE` is `offline`."""

    def __init__(self) -> None:
        super().__init__(OFFLINE.message)


_DOWNLOAD_REASONS: dict[type[Exception], str] = {
    CannotResolveHostError: "dns",
    DownloadConnectionRefusedError: "connection",
    DownloadTimeoutError: "timeout",
    OfflineError: OFFLINE.reason,
    IgnoreRequest: "filtered",
}
_FROM_CACHE = frozenset({"hit", "revalidated"})
_NOT_STORED = "store"


class ImageFailed(ImageException):
    """The image URL gave no image.

    Attributes:
        reason: the code of the reason, as in the stats.
        fate: `rejected` if the response must not be kept as an image, else `failed`.
        http_status: the status of the site's response, None if there was none.
    """

    def __init__(
        self, reason: str, message: str, *, fate: Fate = "failed", http_status: int | None = None
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.fate = fate
        self.http_status = http_status

    @classmethod
    def of(cls, error: Exception) -> Self:
        """Convert any error; the new one has no traceback, so keeping it uses little memory."""
        if isinstance(error, ImageFailed):
            reason, message = error.reason, str(error)
            return cls(reason, message, fate=error.fate, http_status=error.http_status)
        if isinstance(error, ResponseDataLossError):
            return cls("truncated", MESSAGES["truncated"], fate="rejected")
        if isinstance(error, ImgCacheError):
            return cls("cache", str(error))
        if exceeds_limit(error):
            return cls(TOO_LARGE, str(error) or "the file is larger than DOWNLOAD_MAXSIZE")
        for kind, reason in _DOWNLOAD_REASONS.items():
            if isinstance(error, kind):
                return cls(reason, str(error))
        # It may name a URL with its password.
        return cls("download", f"{type(error).__name__}: {printable(error)}")

    @classmethod
    def because(cls, cause: NoImage, *, fate: Fate = "failed") -> Self:
        """Return the error for the reason why there is no image."""
        return cls(cause.reason, cause.message, fate=fate, http_status=cause.http_status)

    @property
    def is_not_stored(self) -> bool:
        """Whether the image is good, but could not be stored."""
        return self.reason == _NOT_STORED

    @property
    def is_blocked(self) -> bool:
        """Whether the image is blocked."""
        return self.reason == BlockedError.code


class ImageWithheld(ImageFailed, IgnoreRequest):
    """The cache says that the URL gives no image, and there is no response to say it.

    Scrapy drops the request: it calls the errback and logs no error.
    """


class Outcome(NamedTuple):
    """What happened to an image URL.

    Attributes:
        fate: the fate as in the stats; None if the cache was bypassed, which is not counted.
        entry: the entry from the cache or the spool; None if neither has the image.
        response: the response from the cache or the site; None if the bytes were not read.
        error: why there is no image, or why the image is not in the cache.
        is_fetched: whether the site sent a revalidated image although it has not changed.
    """

    fate: Fate | None
    entry: Entry | None = None
    response: Response | None = None
    error: ImageFailed | None = None
    is_fetched: bool = False

    @classmethod
    def failed(cls, error: ImageFailed, response: Response | None = None) -> Self:
        """Return the outcome of a failure."""
        return cls(error.fate, None, response, error)

    @classmethod
    def not_stored(cls, response: Response) -> Self:
        """Return the outcome of an image that is neither in the cache nor in the spool."""
        return cls.failed(
            ImageFailed(_NOT_STORED, "the image could not be stored in the cache"), response
        )

    @classmethod
    def stored(cls, response: Response, entry: Entry, *, is_spooled: bool) -> Self:
        """Return the outcome of an image that was stored or spooled."""
        if is_from_cache(response):  # A redirect led to an image in the cache.
            return cls("hit", entry, response)
        if is_spooled:
            return cls("spooled", entry, response)
        return cls("stored" if entry["created"] else "duplicate", entry, response)

    @classmethod
    def revalidated(cls, entry: Entry, response: Response) -> Self:
        """Return the outcome of an image that the site sent again without a change."""
        return cls("revalidated", entry, response, is_fetched=True)

    @property
    def is_stale(self) -> bool:
        """Whether the image is too old, but the site gave no new one."""
        return self.entry is not None and self.entry.get("stale", False)

    @property
    def is_image(self) -> bool:
        """Whether the response is an image, even if it could not be stored or is too large."""
        return self.error is None or self.error.reason in {_NOT_STORED, TOO_LARGE}

    @property
    def saved_bytes(self) -> int:
        """Number of bytes that were not fetched from the site, because they are in the cache."""
        if self.fate not in _FROM_CACHE or self.entry is None or self.is_fetched:
            return 0
        return self.entry["file_size_bytes"]

    @property
    def status(self) -> str:
        """The `status` of a result in an item, with Scrapy's names."""
        # The image of a response from Scrapy's HttpCache can be new to our cache.
        is_cached = self.response is not None and "cached" in self.response.flags
        if self.fate in _FROM_CACHE or (is_cached and self.fate != "spooled"):
            return "cached"
        return "downloaded" if self.fate == "stored" else str(self.fate)


def status_error(response: Response) -> ImageFailed | None:
    """Return why the status of a response says that there is no image; None if it does not."""
    # A redirect may lead to a URL with a remembered failure.
    cause = by_status(response.status, is_known=is_from_cache(response))
    return None if cause is None else ImageFailed.because(cause)


def known_failure(failure: Failure) -> ImageFailed:
    """Return the error for a URL with a remembered failure."""
    kind = ImageWithheld if failure["http_status"] is None else ImageFailed
    return kind.because(by_failure(failure))


def refusal_error(reason: Reason, status: int, max_bytes: int) -> ImageFailed:
    """Return the error for a response that must not be kept as an image.

    Args:
        reason: why it must not be kept.
        status: the HTTP status of the response.
        max_bytes: the size of the largest image that may be kept.
    """
    fate: Fate = "failed" if reason == TOO_LARGE else "rejected"
    return ImageFailed.because(by_refusal(reason, status, max_bytes), fate=fate)


def blocked_error(error: BlockedError) -> ImageWithheld:
    """Return the error for an image that is blocked."""
    return ImageWithheld(error.code, str(error), fate="rejected")


def blocked_url_error(url: str) -> ImageWithheld:
    """Return the error for a URL that is blocked, or whose host is blocked."""
    return blocked_error(blocked_source("URL", url))


def too_large_error(max_bytes: int) -> ImageFailed:
    """Return the error for an image that is larger than a limit in bytes."""
    return ImageFailed.because(by_refusal(TOO_LARGE, None, max_bytes))
