"""Open the blob store of a URL: a folder or an object store."""

from pathlib import Path
from urllib.parse import unquote, urlsplit

from imgcache_scrapy.core.errors import ConfigurationError
from imgcache_scrapy.core.forks import no_fork
from imgcache_scrapy.engine.blobs.files import FileBlobs
from imgcache_scrapy.engine.blobs.store import BlobStore


def open_blobs(blobs_url: str) -> BlobStore:
    """Open the blob store of a URL.

    Args:
        blobs_url: `file:///folder`, which is created, or any URL that obstore supports.

    Returns:
        The store.

    Raises:
        ConfigurationError: the URL has another form.
    """
    parts = urlsplit(blobs_url)
    if parts.scheme == "file":
        if parts.netloc:
            raise ConfigurationError(
                f"{blobs_url!r} contains a host: write it with three slashes, file:///folder"
            )
        return FileBlobs(Path(unquote(parts.path, errors="surrogateescape")))
    # Imported here, because few caches are in an object store.
    with no_fork:
        from imgcache_scrapy.engine.blobs.objects import ObjectBlobs  # noqa: PLC0415

    return ObjectBlobs(blobs_url)
