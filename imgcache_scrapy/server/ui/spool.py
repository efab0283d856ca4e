"""Count the images that wait in the spool of the crawls of this machine."""

import os
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from imgcache_scrapy.core.entry import is_content_hash

VARIABLE = "IMGCACHE_SPOOL_DIR"
"""The environment variable that names the folder of the spool."""

# A spool is limited in bytes; only one of very many tiny records has more.
_MAX_RECORDS = 100_000


class Waiting(NamedTuple):
    """The records in a spool.

    Attributes:
        records: the number of those that wait.
        size: their bytes.
        refused: the number of those that the cache has refused.
    """

    records: int
    size: int
    refused: int


def waiting() -> Waiting | None:
    """Count the records in the spool that the environment names; None if there is none."""
    name = os.environ.get(VARIABLE)
    if not name or not Path(name).is_dir():
        return None
    sizes = _sizes(Path(name))
    return Waiting(len(sizes), sum(sizes), len(_sizes(Path(name, "refused"))))


def _sizes(folder: Path) -> list[int]:
    found: list[int] = []
    # A crawl may have just stored one of them, or the folder cannot be read.
    with suppress(OSError), os.scandir(folder) as files:
        # Each record is named by the hash of its content.
        records = (file for file in files if is_content_hash(file.name))
        found.extend(file.stat().st_size for file in islice(records, _MAX_RECORDS))
    return found
