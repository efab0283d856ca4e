"""Links to an image that work without the token of a service, until a time."""

import math
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from imgcache_scrapy.core.errors import InvalidRequestError
from imgcache_scrapy.core.signing import is_signature, signature_of

_PURPOSE = "link"
_SECONDS = re.compile(r"[0-9]{1,12}")


def signed_query(
    token: str, content_hash: str, bucket: str, expires: datetime | timedelta | float
) -> dict[str, str]:
    """Return the parameters that make a link to an image work without the token.

    Args:
        token: the token of the service.
        content_hash: the hash of the image.
        bucket: the bucket of the image; "" for all.
        expires: how long the link works, as a time or in seconds; or until when.

    Raises:
        InvalidRequestError: the time is over, or not a time.
    """
    until = str(_timestamp(expires))
    signed = _signed_text(content_hash, bucket, until)
    return {"expires": until, "signature": signature_of(token, _PURPOSE, signed)}


def is_signed(
    token: str, content_hash: str, query: Sequence[tuple[str, str]], now: datetime
) -> bool:
    """Return whether the query of a link to an image is signed and has not expired.

    Args:
        token: the token of the service.
        content_hash: the hash in the path of the link.
        query: the names and values of the parameters.
        now: the present time.
    """
    found = dict(query)
    until, signature = found.pop("expires", ""), found.pop("signature", "")
    bucket = found.pop("bucket", "")
    # Nothing else may be in it: what is not signed must not change the answer.
    if found or len(dict(query)) != len(query) or not _SECONDS.fullmatch(until):
        return False
    if now.timestamp() >= int(until):
        return False
    return is_signature(token, _PURPOSE, _signed_text(content_hash, bucket, until), signature)


def _signed_text(content_hash: str, bucket: str, until: str) -> str:
    return f"{content_hash} {until} {bucket}"


def _timestamp(expires: datetime | timedelta | float) -> int:
    """Return a time in whole seconds since 1970."""
    wrong = f"expires is a time, or a number of seconds, not {expires!r:.80}"
    # A bool is a number for Python: True would be a second.
    if isinstance(expires, bool):
        raise InvalidRequestError(wrong)
    try:
        if isinstance(expires, datetime):
            until = expires if expires.tzinfo else expires.replace(tzinfo=UTC)
        elif isinstance(expires, timedelta):
            until = datetime.now(UTC) + expires
        else:
            until = datetime.now(UTC) + timedelta(seconds=expires)
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidRequestError(wrong) from error
    if until <= datetime.now(UTC):
        raise InvalidRequestError("a link must not expire before it is made")
    return math.ceil(until.timestamp())
