"""Let the decoder wait as long as a busy machine needs, so that each picture gets its size."""

from functools import partial

from imgcache_scrapy.engine import cache
from imgcache_scrapy.engine.decoding.decoder import Decoders, TimeLimits
from tests.support.waiting import PATIENCE


def wait_for_small_pictures() -> None:
    """Raise the limits of wall time for small pictures; processor time stays limited."""
    limits = TimeLimits(PATIENCE, PATIENCE, PATIENCE)
    cache.Decoders = partial(Decoders, limits)  # type: ignore[misc, assignment]
