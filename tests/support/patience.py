"""Wait as long as a busy machine needs: for the sizes of pictures, and for answers of caches."""

from functools import partial

from imgcache_scrapy.client.base import ClientBase
from imgcache_scrapy.client.client import ImgCacheClient
from imgcache_scrapy.engine import cache
from imgcache_scrapy.engine.decoding.decoders import Decoders, TimeLimits
from tests.support.waiting import PATIENCE


def wait_for_small_pictures() -> None:
    """Raise the limits of wall time for small pictures; processor time stays limited."""
    limits = TimeLimits(PATIENCE, PATIENCE, PATIENCE)
    cache.Decoders = partial(Decoders, limits)  # type: ignore[misc, assignment]


def wait_for_answers() -> None:
    """Raise the default timeout of the clients."""
    for kind in (ClientBase, ImgCacheClient):
        kind.__init__.__defaults__ = (float(PATIENCE),)
