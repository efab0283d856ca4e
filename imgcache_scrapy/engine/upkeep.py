"""Upkeep of a cache in use: every image is examined, and what no image owns is removed."""

import re
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from itertools import islice
from typing import Literal, NamedTuple

from imgcache_scrapy.core.entry import content_hash_of
from imgcache_scrapy.engine.blobs.store import Found
from imgcache_scrapy.engine.cache import ImageCache
from imgcache_scrapy.engine.catalog.database import database_call

State = Literal["sound", "healed", "missing", "truncated", "altered"]
"""What became of an image: `healed` ones were marked damaged, and are not."""

UNDER_WAY = timedelta(minutes=1)
"""A file that was changed so lately may be of a store that is under way."""

_AT_A_TIME = 500
# An object store answers many as fast as one, and each may be an image of 100 MiB in memory.
_READERS = 4
# As `FileBlobs` names its drafts and probes, and obstore its own drafts.
_LEFTOVER = re.compile(r"([0-9a-f]{2}/[0-9a-f]{62})?#[0-9a-f]+")


class Verdict(NamedTuple):
    """What the examination of an image found.

    Attributes:
        content_hash: names the image.
        state: what became of it.
    """

    content_hash: str
    state: State


class Upkeep:
    """Checks a cache as a whole, while others store and delete.

    Args:
        cache: the cache; closed by its owner.

    Attributes:
        cache: the cache.
    """

    def __init__(self, cache: ImageCache) -> None:
        self.cache = cache

    def examine(self) -> Iterator[Verdict]:
        """Read every image and compare its bytes with its hash, a few at a time.

        An image whose bytes are not there or others is marked damaged, one that was marked and is
        sound is not any more.

        Yields:
            One verdict per image, in the order of their hashes.
        """
        with ThreadPoolExecutor(_READERS) as readers:
            page = self.cache.catalog.rows_after("", _AT_A_TIME)
            while page:
                yield from readers.map(self._verdict, page)
                page = self.cache.catalog.rows_after(page[-1][0], _AT_A_TIME)

    def orphans(self, older_than: timedelta = UNDER_WAY) -> Iterator[Found]:
        """Find what crashes left: blobs that no image owns, and drafts of blobs.

        Args:
            older_than: younger ones are left out, since their store may be under way. Drafts
                younger than `UNDER_WAY` always are: without its draft a store fails.
        """
        now = time.time()
        settled = (
            found for found in self.cache.blobs.scan() if _is_settled(found, now, older_than)
        )
        for some in _batches(settled):
            known = self.cache.catalog.known(
                [found.content_hash for found in some if found.content_hash]
            )
            yield from (found for found in some if found.content_hash not in known)

    def remove(self, orphan: Found) -> bool:
        """Remove an orphan.

        Returns:
            Whether it was one to the last: a store may have made an image of it meanwhile.
        """
        if orphan.content_hash is not None:
            return self.cache.delete_orphan(orphan.content_hash)
        self.cache.blobs.discard(orphan.key)
        return True

    def _verdict(self, row: tuple[str, int, bool]) -> Verdict:
        content_hash, size, is_damaged = row
        state = state_of(content_hash, size, self.cache.blobs.get(content_hash))
        is_news = is_damaged == (state == "sound")
        return Verdict(content_hash, self._settled_state(content_hash, size) if is_news else state)

    @database_call
    def _settled_state(self, content_hash: str, size: int) -> State:
        # Within the lock, since a delete and a store may have run beside the first look.
        with self.cache.catalog.exclusive([content_hash]) as writing:
            if not writing.has_image(content_hash):
                return "sound"
            state = state_of(content_hash, size, self.cache.blobs.get(content_hash))
            if state != "sound":
                writing.mark_damaged(content_hash)
            elif writing.is_damaged(content_hash):
                writing.mark_sound(content_hash)
                return "healed"
            return state


def state_of(content_hash: str, size: int, data: bytes | None) -> State:
    """Judge the bytes of an image.

    Args:
        content_hash: what they should be.
        size: how many they should be.
        data: what they are, None where there are none.
    """
    if data is None:
        return "missing"
    if content_hash_of(data) == content_hash:
        return "sound"
    return "truncated" if len(data) < size else "altered"


def _is_settled(found: Found, now: float, older_than: timedelta) -> bool:
    """Tell whether this is a blob or a leftover, and old enough to be judged."""
    if found.content_hash is None:
        if not _LEFTOVER.fullmatch(found.key):
            return False
        older_than = max(older_than, UNDER_WAY)
    return now - found.modified >= older_than.total_seconds()


def _batches(found: Iterable[Found]) -> Iterator[list[Found]]:
    each = iter(found)
    while some := list(islice(each, _AT_A_TIME)):
        yield some
