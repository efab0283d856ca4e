"""Why an image URL gave no image: pure functions over responses and errors."""

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
from imgcache_scrapy.core.errors import ImgCacheError
from imgcache_scrapy.plugin.fates import Fate
from imgcache_scrapy.plugin.responses import refusal_of

_DOWNLOAD_REASONS: dict[type[Exception], str] = {
    CannotResolveHostError: "dns",
    DownloadConnectionRefusedError: "connection",
    DownloadTimeoutError: "timeout",
    IgnoreRequest: "filtered",
}


class ImageFailed(FileException):
    """An image URL that gave no image.

    Attributes:
        reason: the code of why, as in the stats.
        fate: `rejected` where something came that is not to be kept, else `failed`.
        http_status: of the site's answer, None where there was none.
    """

    def __init__(
        self, reason: str, message: str, *, fate: Fate = "failed", http_status: int | None = None
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.fate = fate
        self.http_status = http_status


def refused(response: Response) -> ImageFailed | None:
    """Say why a response is not to be kept as an image; None where it is."""
    status = response.status
    if status not in ACCEPTED_STATUSES:
        return ImageFailed(f"http_{status}", f"the site answered {status}", http_status=status)
    reason = refusal_of(response)
    if reason is None:
        return None
    return ImageFailed(reason, MESSAGES[reason], fate="rejected", http_status=status)


def failed(error: Exception) -> ImageFailed:
    """Make of any error one that can be kept for a whole crawl: without the frames it saw."""
    if isinstance(error, ImageFailed):
        return ImageFailed(error.reason, str(error), fate=error.fate, http_status=error.http_status)
    if isinstance(error, ResponseDataLossError):
        return ImageFailed("truncated", MESSAGES["truncated"], fate="rejected")
    if isinstance(error, ImgCacheError):
        return ImageFailed("cache", str(error))
    for kind, reason in _DOWNLOAD_REASONS.items():
        if isinstance(error, kind):
            return ImageFailed(reason, str(error))
    return ImageFailed("download", f"{type(error).__name__}: {error}")
