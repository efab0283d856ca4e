"""Decoders: the child processes of a cache, and how long its stores wait for them."""

import os
from collections.abc import Sequence
from queue import LifoQueue
from typing import NamedTuple

from imgcache_scrapy.core.batches import batches_by_size
from imgcache_scrapy.engine.decoding.decoder import BYTES_TOGETHER, SENT_TOGETHER, Decoder
from imgcache_scrapy.engine.decoding.messages import (
    NOT_DECODED,
    QUICK_ONLY,
    DecodeError,
    ImageInfo,
    undecodable,
)
from imgcache_scrapy.engine.decoding.signatures import may_be_decoded

CHILDREN = min(max(os.cpu_count() or 1, 2), 4)
"""How many threads can decode quick pictures at the same time, each with a child of its own."""


class TimeLimits(NamedTuple):
    """Limits of wall time in seconds; processor time is limited far more.

    Attributes:
        quick_picture: for one quick picture. Only a child that hangs takes so long.
        quick_failures: for all pictures of a call together that turn out not to be quick.
        slow_picture: for one slow picture.
    """

    quick_picture: float = 5.0
    quick_failures: float = 0.3
    slow_picture: float = 5.0


_TIME_LIMITS = TimeLimits()


class Decoders:
    """Child processes for quick pictures, and one for slow pictures, which nobody waits for.

    Args:
        limits: the limits of time.
    """

    def __init__(self, limits: TimeLimits = _TIME_LIMITS) -> None:
        self._limits = limits
        self._quick = [Decoder(limits.quick_picture, QUICK_ONLY) for _ in range(CHILDREN)]
        # The last one that was used is used again, so that few children are started.
        self._free: LifoQueue[Decoder] = LifoQueue()
        for decoder in reversed(self._quick):
            self._free.put(decoder)
        self._full = Decoder(limits.slow_picture)

    def decode_quick(self, pictures: Sequence[bytes]) -> list[ImageInfo]:
        """Find the size and the perceptual hash of each quick picture.

        A quick picture waits for as long as a busy machine needs. Only hostile pictures beside it
        can use up its time.

        Returns:
            The information about each picture; `NOT_DECODED` for pictures that are not quick, and
            for those that come after too many of them.
        """
        decodable = [picture for picture in pictures if may_be_decoded(picture)]
        infos = iter(self._decode_some(decodable) if decodable else ())
        other = undecodable(DecodeError.FORMAT)
        return [next(infos) if may_be_decoded(picture) else other for picture in pictures]

    def decode_slow(self, picture: bytes) -> ImageInfo:
        """Find the size and the perceptual hash of a picture that is not quick.

        Returns:
            The information about the picture; `NOT_DECODED` if the child did not answer in time.
        """
        self._full.start()
        return self._full.decode(picture) or undecodable(DecodeError.TOO_LARGE)

    def _decode_some(self, pictures: Sequence[bytes]) -> list[ImageInfo]:
        decoder = self._free.get()
        try:
            decoder.start()
            return self._decode_each(decoder, pictures)
        finally:
            self._free.put(decoder)

    def _decode_each(self, decoder: Decoder, pictures: Sequence[bytes]) -> list[ImageInfo]:
        found: list[ImageInfo] = []
        seconds_left = self._limits.quick_failures
        for group in batches_by_size(pictures, len, BYTES_TOGETHER, SENT_TOGETHER):
            left = group
            while left and seconds_left > 0:
                answers = decoder.decode_many(left, failure_seconds=seconds_left)
                left = left[len(answers) :]
                found += [info or NOT_DECODED for info, _ in answers]
                seconds_left -= sum(
                    seconds for info, seconds in answers if info is None or info.width is None
                )
            found += [NOT_DECODED] * len(left)
        return found

    def close(self) -> None:
        """Stop all child processes."""
        for decoder in (*self._quick, self._full):
            decoder.close()
