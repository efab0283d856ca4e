"""Choose the blob store that a URL names."""

from pathlib import Path
from urllib.parse import unquote, urlsplit

from imgcache_scrapy.core.errors import ConfigurationError
from imgcache_scrapy.engine.blobs.files import FileBlobs
from imgcache_scrapy.engine.blobs.store import BlobStore


def open_blobs(blobs_url: str) -> BlobStore:
    """Open the blob store that a URL names.

    Args:
        blobs_url: `file:///folder`, which is created, or any URL that obstore knows.

    Returns:
        The store.

    Raises:
        ConfigurationError: the URL is not one of these.
    """
    parts = urlsplit(blobs_url)
    if parts.scheme == "file":
        if parts.netloc:
            raise ConfigurationError(f"{blobs_url!r} names a host: file:///folder is needed")
        return FileBlobs(Path(unquote(parts.path)))
    # Imported here, since few caches are in an object store.
    from imgcache_scrapy.engine.blobs.objects import ObjectBlobs  # noqa: PLC0415

    return ObjectBlobs(blobs_url)
