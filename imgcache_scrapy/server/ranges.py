"""Decide from the headers of a request which bytes of an image it gets (RFC 9110)."""

import re

from starlette.exceptions import HTTPException


def etag_matches(if_none_match: str | None, etag: str) -> bool:
    """Return whether the client already has the image.

    Args:
        if_none_match: the header `If-None-Match`.
        etag: the entity tag of the image, in quotes.
    """
    tags = [tag.strip().removeprefix("W/") for tag in (if_none_match or "").split(",")]
    return etag in tags or tags == ["*"]


def requested_range(
    range_header: str | None, if_range: str | None, etag: str, size: int
) -> range | None:
    """Return which bytes a request asks for.

    Args:
        range_header: the header `Range`.
        if_range: the header `If-Range`.
        etag: the entity tag of the image, in quotes.
        size: the size of the image in bytes.

    Returns:
        The positions of the bytes; None for the whole image, also if the request asks for several
        parts.

    Raises:
        HTTPException: status 416, because the image has no such bytes.
    """
    match = re.fullmatch(
        r"bytes=\s*([0-9]{0,18})-([0-9]{0,18})\s*", range_header or "", re.IGNORECASE
    )
    if match is None or if_range not in {None, etag} or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    if not first:
        part = range(max(size - int(last), 0), size)
    elif last and int(last) < int(first):
        return None
    else:
        part = range(int(first), min(int(last) + 1, size) if last else size)
    if not part:
        raise HTTPException(
            416,
            f"the image has only {size} bytes: ask for a part of them",
            {"Content-Range": f"bytes */{size}"},
        )
    return part
