"""Remove the records of a spool that a takedown is about."""

from pathlib import Path

from imgcache_scrapy.client.spool import Spool, SpooledRecord
from imgcache_scrapy.core.selection import Selection


def remove_spooled(folder: Path, selection: Selection, cache: str, *, dry_run: bool = False) -> int:
    """Remove the records of a selection, those that wait and those that the cache refused.

    A record that another process stores at this moment is left out: the cache has it then.

    Args:
        folder: the folder of the spool; it may be missing.
        selection: the selection.
        cache: the cache for which the records wait, as `cache_name` names it.
        dry_run: whether only to count.

    Returns:
        The number of records.

    Raises:
        OSError: a file cannot be removed.
    """
    spool, count = Spool(folder), 0
    for each in spool.listed():
        record = each.record
        if record is None or not record.belongs_to(cache) or not selection.has(record.entry()):
            continue
        count += dry_run or _remove(spool, each, cache)
    return count


def _remove(spool: Spool, spooled: SpooledRecord, cache: str) -> bool:
    if spooled.reason is not None:
        spool.remove_refused(spooled.name)
        return True
    locked = spool.lock(spooled.name, cache)
    if locked is None:
        return False
    locked.remove()
    return True
