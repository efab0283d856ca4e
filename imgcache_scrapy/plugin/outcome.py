"""Outcome: what became of an image URL, decided once. Pure functions of responses and errors."""

from typing import Literal, NamedTuple, Self

from scrapy.exceptions import (
    CannotResolveHostError,
    DownloadConnectionRefusedError,
    DownloadTimeoutError,
    IgnoreRequest,
    ResponseDataLossError,
)
from scrapy.http import Response
from scrapy.pipelines.media import FileException

from imgcache_scrapy.core.admission import ACCEPTED_STATUSES, MESSAGES
from imgcache_scrapy.core.entry import Entry
from imgcache_scrapy.core.errors import ImgCacheError
from imgcache_scrapy.plugin.responses import is_from_cache, refusal_of

Fate = Literal["hit", "stored", "duplicate", "spooled", "rejected", "failed"]

_DOWNLOAD_REASONS: dict[type[Exception], str] = {
    CannotResolveHostError: "dns",
    DownloadConnectionRefusedError: "connection",
    DownloadTimeoutError: "timeout",
    IgnoreRequest: "filtered",
}


_NOT_STORED = "store"


class ImageFailed(FileException):
    """An image URL that gave no image.

    Attributes:
        reason: the code of the reason, as in the stats.
        fate: `rejected` if something came that is not to be kept, else `failed`.
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
        """Make a failure of any error; it refers to no frames, so it can be kept for a crawl."""
        if isinstance(error, ImageFailed):
            reason, message = error.reason, str(error)
            return cls(reason, message, fate=error.fate, http_status=error.http_status)
        if isinstance(error, ResponseDataLossError):
            return cls("truncated", MESSAGES["truncated"], fate="rejected")
        if isinstance(error, ImgCacheError):
            return cls("cache", str(error))
        for kind, reason in _DOWNLOAD_REASONS.items():
            if isinstance(error, kind):
                return cls(reason, str(error))
        return cls("download", f"{type(error).__name__}: {error}")


class Outcome(NamedTuple):
    """What became of an image URL.

    Attributes:
        fate: as in the stats; None if the cache was kept out, which counts nothing.
        entry: the cache's or the spool's; None if neither has the image.
        response: the cache's or the site's; None if the bytes stay in the cache.
        error: why there is no image, or why it is not in the cache.
    """

    fate: Fate | None
    entry: Entry | None = None
    response: Response | None = None
    error: ImageFailed | None = None

    @classmethod
    def failed(cls, error: ImageFailed, response: Response | None = None) -> Self:
        """Return the outcome of a failure."""
        return cls(error.fate, None, response, error)

    @classmethod
    def not_stored(cls, response: Response) -> Self:
        """Return the outcome of an image that neither the cache nor the spool took."""
        return cls.failed(ImageFailed(_NOT_STORED, "the cache did not take the image"), response)

    @classmethod
    def stored(cls, response: Response, entry: Entry, *, is_spooled: bool) -> Self:
        """Return the outcome of a response that was stored, or spooled."""
        if is_from_cache(response):  # A redirect led to an image that the cache had.
            return cls("hit", entry, response)
        if is_spooled:
            return cls("spooled", entry, response)
        return cls("stored" if entry["created"] else "duplicate", entry, response)

    @property
    def is_image(self) -> bool:
        """Whether the response is an image, wherever it is kept."""
        return self.error is None or self.error.reason == _NOT_STORED

    @property
    def saved_bytes(self) -> int:
        """Bytes that were not fetched from the site."""
        return self.entry["file_size_bytes"] if self.fate == "hit" and self.entry else 0

    @property
    def status(self) -> str:
        """The `status` of a result in an item, in Scrapy's words."""
        # A response may come from HttpCache, and its image still be new to our cache.
        is_cached = self.response is not None and "cached" in self.response.flags
        if self.fate == "hit" or (is_cached and self.fate != "spooled"):
            return "cached"
        return "downloaded" if self.fate == "stored" else str(self.fate)


def refused(response: Response) -> ImageFailed | None:
    """Return why a response is not to be kept as an image; None if it is."""
    status = response.status
    if status not in ACCEPTED_STATUSES:
        return ImageFailed(f"http_{status}", f"the site answered {status}", http_status=status)
    reason = refusal_of(response)
    if reason is None:
        return None
    return ImageFailed(reason, MESSAGES[reason], fate="rejected", http_status=status)
