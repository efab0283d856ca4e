"""AuditEntry: an act by hand that removed or blocked something, and who did it."""

from typing import Any, Literal, NamedTuple, TypedDict

Act = Literal["take_down", "delete", "block", "unblock"]
"""What an audit list records."""


class AuditEntry(TypedDict):
    """An act in the audit list.

    Attributes:
        done_at: when it was done, ISO 8601, UTC.
        actor: who did it: `user@host`, or the address of a client that does not say it.
        act: what was done.
        filter: what it was done to: the filters of a takedown, else a `content_hash` and its
            `bucket`, a `host` or a `url`. A takedown with a block has `block` True.
        captures: number of captures that it deleted.
        images: number of images that it deleted, because their last capture was deleted.
        bytes: the bytes of these images.
    """

    done_at: str
    actor: str
    act: str
    filter: dict[str, Any]
    captures: int
    images: int
    bytes: int


class Counts(NamedTuple):
    """What was deleted.

    Attributes:
        captures: number of captures.
        images: number of images whose last capture was deleted.
        bytes: the bytes of these images.
    """

    captures: int = 0
    images: int = 0
    bytes: int = 0


NOTHING = Counts()
"""Nothing was deleted."""


class Deed(NamedTuple):
    """An act to record.

    Attributes:
        actor: who does it.
        act: what is done.
        filter: what it is done to.
    """

    actor: str
    act: Act
    filter: dict[str, Any]
