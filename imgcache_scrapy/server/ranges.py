"""Which part of an image a request wants, if any: pure functions of its headers (RFC 9110)."""

import re

from starlette.exceptions import HTTPException


def is_known(if_none_match: str | None, etag: str) -> bool:
    """Tell whether the client has the image already.

    Args:
        if_none_match: the header.
        etag: of the image, in quotes.
    """
    tags = [tag.strip().removeprefix("W/") for tag in (if_none_match or "").split(",")]
    return etag in tags or tags == ["*"]


def wanted_part(wanted: str | None, if_range: str | None, etag: str, size: int) -> range | None:
    """Tell which bytes are wanted.

    Args:
        wanted: the header `Range`.
        if_range: the header `If-Range`.
        etag: of the image, in quotes.
        size: bytes of the image.

    Returns:
        Their positions; None for all of them, also where several parts are wanted.

    Raises:
        HTTPException: 416, there are no such bytes.
    """
    match = re.fullmatch(r"bytes=\s*([0-9]{0,18})-([0-9]{0,18})\s*", wanted or "", re.IGNORECASE)
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
            416, f"the image has {size} bytes, not these", {"Content-Range": f"bytes */{size}"}
        )
    return part
