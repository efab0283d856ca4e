"""Where the two halves of a cache are: in its folder, or where the environment says."""

import os
from pathlib import Path

from imgcache_scrapy.engine.catalog.database import sqlite_url
from imgcache_scrapy.engine.catalog.sqlite import DatabaseUrl

CATALOG_NAME = "catalog.sqlite3"
"""The name of the catalog in the folder of a cache."""
BLOBS_NAME = "blobs"
"""The name of the folder of the blobs."""
DEFAULT_FOLDER = Path("imgcache")
"""The folder of the cache if `imgcache serve` gets no other."""

_VARIABLES = ("IMGCACHE_DATABASE_URL", "IMGCACHE_BLOBS_URL")


def uses_folder() -> bool:
    """Return whether at least one half of the cache is in its folder."""
    return not all(map(os.environ.get, _VARIABLES))


def addresses_in(folder: Path) -> tuple[DatabaseUrl, str]:
    """Return the URLs of the catalog and the blobs of the cache in a folder.

    The variables in the environment have priority.
    """
    database_url, blobs_url = map(os.environ.get, _VARIABLES)
    return (
        database_url or sqlite_url(folder / CATALOG_NAME),
        blobs_url or (folder / BLOBS_NAME).absolute().as_uri(),
    )
