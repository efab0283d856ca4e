"""What the environment says of a cache: where its two halves are, and how large a part may be."""

import os
from pathlib import Path

from imgcache_scrapy.core.errors import ConfigurationError, InvalidRequestError
from imgcache_scrapy.core.units import checked_size
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


def size_in_environment(variable: str, default: int) -> int:
    """Return a size in bytes, which a variable may name as `checked_size` takes it.

    Args:
        variable: the name of the variable.
        default: the size if the variable is not set, or empty.

    Raises:
        ConfigurationError: the value of the variable is not a size.
    """
    given = os.environ.get(variable)
    try:
        return checked_size(given) if given else default
    except InvalidRequestError as error:
        raise ConfigurationError(f"{variable}: {error}") from error
