"""Find images whose blobs are lost, for example because an older backup was restored."""

import logging
from collections.abc import Mapping
from contextlib import suppress
from secrets import token_hex

from imgcache_scrapy.core.errors import UnavailableError
from imgcache_scrapy.engine.blobs.store import BlobStore
from imgcache_scrapy.engine.catalog.catalog import Catalog

logger = logging.getLogger(__name__)

# If a tenth of the blobs is lost, 32 images find it with a probability of 97 %.
_SAMPLE_SIZE = 32


def lost_blobs(blobs: BlobStore, sizes: Mapping[str, int]) -> set[str]:
    """Return which blobs are missing or have another size; none of them is read.

    Args:
        blobs: the store.
        sizes: the expected size of each blob in bytes, by content hash.
    """
    found = blobs.sizes(sizes)
    return {name for name, size in sizes.items() if found[name] != size}


def warn_of_lost_blobs(catalog: Catalog, blobs: BlobStore) -> None:
    """Look for the blobs of some random images; log a warning if any of them is lost."""
    with suppress(UnavailableError):
        rows = catalog.rows_after(token_hex(32), _SAMPLE_SIZE)
        rows += catalog.rows_after("", _SAMPLE_SIZE - len(rows))
        sizes = {name: size for name, size, is_damaged in rows if not is_damaged}
        if lost := lost_blobs(blobs, sizes):
            logger.warning(
                "The storage does not have the bytes of %d of %d images that were looked for:"
                " `imgcache verify` finds all images that are lost, so that they are fetched again",
                len(lost),
                len(sizes),
            )
