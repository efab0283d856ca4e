"""BlockedImage: an image that the cache does not take, because it is no picture of anything."""

from typing import TypedDict


class BlockedImage(TypedDict):
    """A blocked image, for example a placeholder.

    Attributes:
        content_hash: BLAKE2b-256 of its bytes, 64 hex digits.
        reason: why it is blocked, as the user said; may be empty.
        created_at: when it was blocked first, ISO 8601, UTC.
    """

    content_hash: str
    reason: str
    created_at: str
