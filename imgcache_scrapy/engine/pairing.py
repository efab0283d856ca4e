"""Check that a catalog and blobs belong to the same cache.

A cache has a random id. The catalog stores it, and the blobs contain it as a small object. The
catalog stores it first. Blobs may lack the id after a crash, or after an upgrade from schema 1,
which had no such id; they get it when the cache is opened the next time.
"""

from imgcache_scrapy.core.errors import ConfigurationError, ReadOnlyError
from imgcache_scrapy.engine.blobs.store import BlobStore
from imgcache_scrapy.engine.catalog.catalog import Catalog
from imgcache_scrapy.engine.catalog.schema import SAMPLE_SIZE, Identity

_OTHER_CATALOG = (
    "the blobs hold images of another catalog: the database (--database, IMGCACHE_DATABASE_URL) and"
    " the blobs (--blobs, IMGCACHE_BLOBS_URL) must be those of one cache"
)
_EMPTY_CATALOG = (
    "the catalog has no images, but the blobs hold images of another catalog: name that catalog"
    " (--database, IMGCACHE_DATABASE_URL), or an empty folder or bucket (--blobs,"
    " IMGCACHE_BLOBS_URL), or make a new catalog from the blobs (`imgcache rebuild`)"
)
_NO_BLOBS = (
    "the catalog has images, but there are no blobs: check that their folder is mounted and their"
    " bucket is the right one (--blobs, IMGCACHE_BLOBS_URL), or remove the catalog if the blobs are"
    " lost for good"
)


def pair(catalog: Catalog, blobs: BlobStore) -> None:
    """Check that blobs belong to a catalog; write the catalog's id into blobs that have no id.

    Several processes may do this at the same time. Where one of the two can only be read,
    nothing is written.

    Raises:
        ConfigurationError: they do not belong together; the message says what to do.
    """
    owner = blobs.owner()
    if owner is None:
        mismatch = _mismatch(blobs, _sample(catalog), adopts_blobs=catalog.adopts_blobs)
        if mismatch is None:
            try:
                catalog.check_writable()
                blobs.set_owner(catalog.cache_id)
            except ReadOnlyError:
                return
        # Read after a mismatch, too: another process may have written the id and blobs meanwhile.
        owner = blobs.owner()
        if mismatch is not None and owner is None:
            raise ConfigurationError(mismatch)
    if owner != catalog.cache_id:
        raise ConfigurationError(_OTHER_CATALOG if catalog.rows_after("", 1) else _EMPTY_CATALOG)
    if catalog.adopts_blobs and not catalog.is_read_only:
        catalog.end_adoption()


def check_before_upgrade(blobs: BlobStore, identity: Identity, sample: list[str]) -> None:
    """Check that blobs belong to an older catalog, before it is upgraded.

    Args:
        blobs: the blobs.
        identity: the identity of the catalog.
        sample: the hashes of some images of the catalog.

    Raises:
        ConfigurationError: they do not belong together; the message says what to do.
        UnavailableError: the blobs cannot be reached.
    """
    owner = blobs.owner()
    if owner is None:
        mismatch = _mismatch(blobs, sample, adopts_blobs=identity.adopts_blobs)
        if mismatch is not None:
            raise ConfigurationError(mismatch)
    # Only a catalog that was upgraded gives the blobs of schema 1 an id.
    elif owner != identity.cache_id:
        raise ConfigurationError(_OTHER_CATALOG if sample else _EMPTY_CATALOG)


def mismatch_of(*, sampled: int, present: int, has_blobs: bool, adopts_blobs: bool) -> str | None:
    """Decide whether blobs without an id can belong to a catalog.

    Args:
        sampled: how many images of the catalog were looked for; 0 if it has none.
        present: how many of these images have a blob.
        has_blobs: whether there are any blobs.
        adopts_blobs: whether the catalog comes from schema 1, whose blobs never have an id.

    Returns:
        None if the blobs belong to the catalog, or if there are none yet; else an error message.
    """
    if sampled and not has_blobs:
        return _NO_BLOBS
    if sampled and 2 * present < sampled:
        return _OTHER_CATALOG
    if not sampled and has_blobs and not adopts_blobs:
        return _EMPTY_CATALOG
    return None


def _mismatch(blobs: BlobStore, sample: list[str], *, adopts_blobs: bool) -> str | None:
    present = sum(size is not None for size in blobs.sizes(sample).values())
    has_blobs = bool(present) or any(found.content_hash for found in blobs.scan())
    return mismatch_of(
        sampled=len(sample), present=present, has_blobs=has_blobs, adopts_blobs=adopts_blobs
    )


def _sample(catalog: Catalog) -> list[str]:
    """Return the hashes of some images; damaged ones only if the first images are all damaged."""
    rows = catalog.rows_after("", SAMPLE_SIZE)
    return [name for name, _, is_damaged in rows if not is_damaged] or [row[0] for row in rows]
