"""Decide which of the pictures with one path gets which number; pure."""

import hashlib
import unicodedata
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from itertools import count
from typing import NamedTuple

MAX_REMEMBERED_SLOTS = 20_000
"""Number of paths of which a crawl remembers the pictures, about 300 bytes each."""


class Holder(NamedTuple):
    """A picture that has a number of a path.

    Attributes:
        picture: digest of the picture's cache key.
        number: its number, from 1.
        content: the hash of its bytes.
    """

    picture: bytes
    number: int
    content: str


def digest(*texts: str) -> bytes:
    """Return a digest of texts, 16 bytes."""
    joined = "\0".join(texts).encode(errors="surrogatepass")
    return hashlib.blake2b(joined, digest_size=16).digest()


def same_file(path: str) -> str:
    """Return a text that two paths share if some file system takes them for the same file.

    File systems ignore case, or the composition of letters, or dots and spaces at an end.
    """
    folded = unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())
    return "/".join(part.rstrip(" .") for part in folded.split("/"))


def numbers_to_try(
    holders: Iterable[Holder], picture: bytes, content: str, first: int, wanted: AbstractSet[bytes]
) -> Iterator[int]:
    """Yield the numbers of a path that a picture may get, the best first, without an end.

    Args:
        holders: the pictures that have a number of this path.
        picture: digest of the picture's cache key.
        content: the hash of its bytes.
        first: its position among the pictures of this crawl that want the path.
        wanted: the digests of those pictures.
    """
    holders = list(holders)
    yield from (holder.number for holder in holders if holder.picture == picture)
    # Its URL has changed, but the picture has not.
    yield from (
        holder.number
        for holder in holders
        if holder.content == content and holder.picture not in wanted
    )
    yield first
    yield from count(max([first, *(holder.number for holder in holders)]) + 1)


class ArrivalOrder:
    """Numbers the pictures of a crawl that want the same path, in the order of their items.

    So a number does not depend on which download ends first.

    Args:
        max_slots: number of paths to remember.
    """

    def __init__(self, max_slots: int = MAX_REMEMBERED_SLOTS) -> None:
        self._max_slots = max_slots
        self._slots: OrderedDict[bytes, dict[bytes, int]] = OrderedDict()

    def number(self, slot: bytes, picture: bytes) -> int:
        """Return the position of a picture among those that want a path, from 1."""
        pictures = self._slots.setdefault(slot, {})
        self._slots.move_to_end(slot)
        if len(self._slots) > self._max_slots:
            self._slots.popitem(last=False)
        return pictures.setdefault(picture, len(pictures) + 1)

    def pictures(self, slot: bytes) -> frozenset[bytes]:
        """Return the pictures that want a path."""
        return frozenset(self._slots.get(slot, ()))
