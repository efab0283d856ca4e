"""Decide which failures of a crawl are remembered, and what a remembered one gives a request."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime

from scrapy import Request
from scrapy.http import Response

from imgcache_scrapy.core.errors import InvalidRequestError
from imgcache_scrapy.core.failures import Failure, SeenFailure, seconds_to_remember
from imgcache_scrapy.core.image_url import ImageUrl
from imgcache_scrapy.core.urls import is_data_url
from imgcache_scrapy.plugin.outcome import ImageFailed, Outcome, known_failure
from imgcache_scrapy.plugin.responses import CACHED_FLAGS, failed_response
from imgcache_scrapy.plugin.session import Session


def known_outcome(failure: Failure, request: Request) -> Outcome:
    """Return the outcome of a remembered failure, with a response of the same status.

    Args:
        failure: the failure.
        request: the request to answer.

    Raises:
        ImageWithheld: the site gave no response.
    """
    error = known_failure(failure)
    if error.http_status is None:
        raise error
    return Outcome.failed(error, failed_response(request, error.http_status))


def note_failure(
    session: Session,
    url: ImageUrl,
    request: Request,
    error: ImageFailed,
    response: Response | None = None,
) -> None:
    """Remember for later crawls that the site gave no image, if the settings want that.

    Args:
        session: the session of the crawl.
        url: the URL that was asked for.
        request: the request for it.
        error: why there is no image.
        response: the response of the site; None if there was none.
    """
    rules = session.settings.remember_failures
    if rules is not None and not session.bypass.applies(request):
        failure = failure_to_remember(url, error, response, rules)
        if failure is not None:
            session.resilient_client.failures.add(failure)


def note_bad_answer(
    session: Session,
    image_url: Callable[[Request], ImageUrl],
    request: Request,
    outcome: Outcome,
) -> None:
    """Remember for later crawls that the response of a site is no image; see `note_failure`.

    Args:
        session: the session of the crawl.
        image_url: returns the URL of a request with its key.
        request: the request.
        outcome: its outcome.
    """
    if outcome.error is not None and outcome.response is not None:
        with suppress(InvalidRequestError):  # Without a key, it is not remembered.
            note_failure(session, image_url(request), request, outcome.error, outcome.response)


def failure_to_remember(
    url: ImageUrl, error: ImageFailed, response: Response | None, rules: Mapping[str, float]
) -> SeenFailure | None:
    """Return the failure to remember; None if it is not remembered.

    Args:
        url: the URL that was asked for.
        error: why there is no image.
        response: the response; None if there was none. One from a cache is not remembered again.
        rules: the time in seconds for each reason that is remembered.
    """
    if is_data_url(url.url) or (response is not None and CACHED_FLAGS[0] in response.flags):
        return None
    header = None if response is None else response.headers.get("Retry-After")
    retry_after = None if header is None else header.decode("latin-1")
    seconds = seconds_to_remember(error.reason, retry_after, rules, datetime.now(UTC))
    if seconds is None:
        return None
    return SeenFailure(url, error.reason, error.http_status, seconds)
