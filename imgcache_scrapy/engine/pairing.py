"""Whether a catalog and blobs are the two halves of one cache.

A cache has a random id, which is in the catalog and as a small object in the blobs. It is durable
in the catalog first: blobs without it get it on a later opening, after a crash in between as well
as after the upgrade from schema 1, which had no such id.
"""

from imgcache_scrapy.core.errors import ConfigurationError
from imgcache_scrapy.engine.blobs.store import BlobStore
from imgcache_scrapy.engine.catalog.catalog import Catalog

# Images whose blobs are looked for; their hashes are random.
_SAMPLE = 64

_STRANGERS = (
    "the blobs hold images of another catalog: the database (--database, IMGCACHE_DATABASE_URL) and"
    " the blobs (--blobs, IMGCACHE_BLOBS_URL) must be those of one cache"
)
_EMPTY_CATALOG = (
    "the catalog knows no image, but the blobs hold images of another catalog: name that catalog"
    " (--database, IMGCACHE_DATABASE_URL), or an empty folder or bucket (--blobs,"
    " IMGCACHE_BLOBS_URL)"
)
_NO_BLOBS = (
    "the catalog knows images, but there are no blobs: check that their folder is mounted and their"
    " bucket is the right one (--blobs, IMGCACHE_BLOBS_URL), or remove the catalog if the blobs are"
    " lost for good"
)


def pair(catalog: Catalog, blobs: BlobStore) -> None:
    """Make sure that these blobs belong to this catalog, and mark them where nobody has.

    Any number of processes may do so at once.

    Raises:
        ConfigurationError: they do not belong together; the message says what to do.
    """
    owner = blobs.owner()
    if owner is None:
        sample = _sample(catalog)
        present = sum(size is not None for size in blobs.sizes(sample).values())
        trouble = trouble_of(
            sampled=len(sample),
            present=present,
            has_blobs=bool(present) or any(found.content_hash for found in blobs.scan()),
            adopts_blobs=catalog.adopts_blobs,
        )
        if trouble is None:
            blobs.set_owner(catalog.cache_id)
        # Also after trouble: another process may have marked the blobs and filled them meanwhile.
        owner = blobs.owner()
        if trouble is not None and owner is None:
            raise ConfigurationError(trouble)
    if owner != catalog.cache_id:
        raise ConfigurationError(_STRANGERS if catalog.rows_after("", 1) else _EMPTY_CATALOG)
    if catalog.adopts_blobs:
        catalog.end_adoption()


def trouble_of(*, sampled: int, present: int, has_blobs: bool, adopts_blobs: bool) -> str | None:
    """Judge blobs that carry no id.

    Args:
        sampled: how many images of the catalog were looked for, 0 when it has none.
        present: how many of them have a blob.
        has_blobs: whether there are any blobs.
        adopts_blobs: whether the catalog comes from schema 1, whose blobs never carry an id.

    Returns:
        One sentence why they cannot be the catalog's; None where they are, or are new.
    """
    if sampled and not has_blobs:
        return _NO_BLOBS
    if sampled and 2 * present < sampled:
        return _STRANGERS
    if not sampled and has_blobs and not adopts_blobs:
        return _EMPTY_CATALOG
    return None


def _sample(catalog: Catalog) -> list[str]:
    """Return some images, those that nobody has found damaged where there are such."""
    rows = catalog.rows_after("", _SAMPLE)
    return [name for name, _, is_damaged in rows if not is_damaged] or [row[0] for row in rows]
