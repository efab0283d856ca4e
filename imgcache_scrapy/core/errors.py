"""The error tree: each error is defined once, with its code and its HTTP status.

ImgCacheError
├── ConfigurationError     a setting, an address or an installation does not work
├── NotFoundError          the image does not exist, or its bytes are damaged
├── InvalidRequestError    the call is wrong; repeating it does not help
│   └── CountChangedError  a takedown of captures that were not counted, or have changed since
├── TooLargeError          the data is larger than the cache accepts
├── BlockedError           the image is blocked: the cache does not take it
├── FetchError             the site gave no image for a URL
├── UnauthorizedError      the token is missing or wrong
├── HostError              the service does not have the host name of its address
├── UnavailableError       the cache does not answer, is too slow, or fails
│   └── StoreFailedError   the cache works, but cannot store this one image now
├── ReadOnlyError          the cache can only be read; it stores nothing
└── ProtocolError          the answer does not follow this API

The server builds its error answers from these classes, and the client raises the same classes:

    try:
        image = client.get_bytes(content_hash)
    except NotFoundError:
        ...
"""

from typing import ClassVar

from imgcache_scrapy.core.text import quoted


class ImgCacheError(Exception):
    """The base class of all errors of the cache and its client.

    Attributes:
        code: the machine-readable name, used in the API's error answers and in the stats.
        status: the HTTP status of the error.
    """

    code: ClassVar[str] = "error"
    status: ClassVar[int] = 500


class ConfigurationError(ImgCacheError):
    """A setting, an address or an installation does not work; the message says what to do."""

    code = "configuration"


class NotFoundError(ImgCacheError):
    """The image does not exist, or its bytes are missing or damaged."""

    code = "not_found"
    status = 404


class InvalidRequestError(ImgCacheError):
    """The call itself is wrong; sending it again does not help."""

    code = "invalid_request"
    status = 422


class CountChangedError(InvalidRequestError):
    """The call does not say which or how many captures are there now: count them first."""

    code = "count_changed"
    status = 409


class TooLargeError(ImgCacheError):
    """The data is larger than the cache accepts."""

    code = "too_large"
    status = 413


class BlockedError(ImgCacheError):
    """The image is blocked: the cache does not take it."""

    code = "blocked"
    status = 403


class FetchError(ImgCacheError):
    """The site gave no image for a URL.

    Args:
        message: why, in one sentence.
        reason: the code of the reason, as in the stats of a crawl, for example `http_404`.
        http_status: the status of the site's response; None if there was none.
    """

    code = "fetch"
    status = 502

    def __init__(
        self, message: str, reason: str = "download", http_status: int | None = None
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.http_status = http_status


class UnauthorizedError(ImgCacheError):
    """The token is missing or wrong."""

    code = "unauthorized"
    status = 401


class HostError(ImgCacheError):
    """The service does not have the host name under which it was called."""

    code = "host"
    status = 421


class UnavailableError(ImgCacheError):
    """The cache does not answer, does not answer in time, or fails."""

    code = "unavailable"
    status = 503


class StoreFailedError(UnavailableError):
    """The cache works, but it cannot store this one image now: other images can be stored."""

    code = "store_failed"


class ReadOnlyError(ImgCacheError):
    """The cache can only be read: it stores, changes and deletes nothing."""

    code = "read_only"
    status = 403


class ProtocolError(ImgCacheError):
    """The answer does not follow this API."""

    code = "protocol"
    status = 502


def not_found(content_hash: str, bucket: str | None) -> NotFoundError:
    """Return the error for an image that is not in a bucket, or in no bucket if it is None."""
    where = "the cache" if bucket is None else "this bucket"
    return NotFoundError(f"{where} has no image {content_hash}")


def blocked(content_hash: str) -> BlockedError:
    """Return the error for an image that is blocked."""
    return BlockedError(f"the image {content_hash} is blocked; `imgcache unblock` allows it again")


def blocked_source(kind: str, value: str) -> BlockedError:
    """Return the error for an image of a host or a URL that is blocked."""
    return BlockedError(
        f"the {kind} {quoted(value)} is blocked; `imgcache unblock` allows it again"
    )


def not_blocked(what: str) -> NotFoundError:
    """Return the error for what should be unblocked, but is not blocked."""
    return NotFoundError(f"{what} is not blocked")


def without_bytes(content_hash: str) -> NotFoundError:
    """Return the error for an image that the cache knows, but whose bytes cannot be used."""
    return NotFoundError(f"the bytes of image {content_hash} are missing or damaged")


REFUSALS = (InvalidRequestError, TooLargeError, BlockedError)
"""The errors for an image that the cache will never accept."""


def error_for_status(status: int, code: object = None) -> type[ImgCacheError]:
    """Return the error class for an HTTP status.

    Args:
        status: the status of an answer, 300 or more.
        code: the `code` in the body of the answer; None if there is none.

    Returns:
        The class to raise.
    """
    for error in (StoreFailedError, ReadOnlyError, BlockedError, CountChangedError):
        if (status, code) == (error.status, error.code):
            return error
    if status >= 500 or status in {408, 425, 429}:  # noqa: PLR2004
        return UnavailableError
    return {
        400: InvalidRequestError,
        401: UnauthorizedError,
        403: UnauthorizedError,
        404: NotFoundError,
        413: TooLargeError,
        421: HostError,
        422: InvalidRequestError,
    }.get(status, ProtocolError)
