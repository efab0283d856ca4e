"""The error tree: each error is defined once, with its code and its HTTP status.

ImgCacheError
├── ConfigurationError     a setting, an address or an installation that cannot work
├── NotFoundError          no such image, or its bytes are damaged
├── InvalidRequestError    the call itself is wrong and would be wrong again
├── TooLargeError          more bytes than the cache takes
├── UnauthorizedError      the token is missing or wrong
├── UnavailableError       no answer, no answer in time, or a failing cache
└── ProtocolError          an answer that is not this API's

The app writes its answers from these classes, the client raises the same ones from the answers:

    try:
        image = client.get_bytes(content_hash)
    except NotFoundError:
        ...
"""

from typing import ClassVar


class ImgCacheError(Exception):
    """Anything that the cache or its client can say instead of an answer.

    Attributes:
        code: the machine-readable name, as in the API's problems and in the stats.
        status: the HTTP status that stands for it.
    """

    code: ClassVar[str] = "error"
    status: ClassVar[int] = 500


class ConfigurationError(ImgCacheError):
    """A setting, an address or an installation that cannot work; the message says what to do."""

    code = "configuration"


class NotFoundError(ImgCacheError):
    """No such image, or its bytes are missing or damaged."""

    code = "not_found"
    status = 404


class InvalidRequestError(ImgCacheError):
    """The call itself is wrong: sending it again will not help."""

    code = "invalid_request"
    status = 422


class TooLargeError(ImgCacheError):
    """More bytes than the cache takes."""

    code = "too_large"
    status = 413


class UnauthorizedError(ImgCacheError):
    """The cache wants a token, or another one."""

    code = "unauthorized"
    status = 401


class UnavailableError(ImgCacheError):
    """The cache gave no answer, none in time, or failed."""

    code = "unavailable"
    status = 503


class ProtocolError(ImgCacheError):
    """The answer is not one of this API."""

    code = "protocol"
    status = 502


REFUSALS = (InvalidRequestError, TooLargeError)
"""What is said of an image that will never be taken."""


def error_for_status(status: int) -> type[ImgCacheError]:
    """Tell which error an HTTP status stands for.

    Args:
        status: the status of an answer, 300 or more.

    Returns:
        The class to raise.
    """
    if status >= 500 or status in {408, 425, 429}:  # noqa: PLR2004
        return UnavailableError
    return {
        400: InvalidRequestError,
        401: UnauthorizedError,
        403: UnauthorizedError,
        404: NotFoundError,
        413: TooLargeError,
        422: InvalidRequestError,
    }.get(status, ProtocolError)
