"""Records of a spool, and spools with records."""

import asyncio
from datetime import UTC, datetime

from imgcache_scrapy.client.record import Record
from imgcache_scrapy.client.replay import replay

CACHE = "http://cache.example"
FETCHED = datetime(2026, 3, 4, 5, 6, 7, 89, UTC)


def record_of(number, **changes):
    """Create a record of an image; each number gives another image."""
    data = b"GIF89a" + str(number).encode()
    return Record(f"http://h.example/{number}.gif", "", "me", FETCHED, data)._replace(**changes)


def filled(spool, count, **changes):
    """Put records into a spool, and return them."""
    records = [record_of(number, **changes) for number in range(count)]
    for record in records:
        spool.put(record)
    return records


def kept(spool):
    """Read all records that wait in a spool."""
    return [waiting.record for waiting in spool.listed() if waiting.reason is None]


def replayed(spool, name, error=None):
    """Replay one record to a store that may fail; return the outcome and what was stored."""
    stored = []

    async def store(record):
        stored.append(record)
        if error is not None:
            raise error

    return asyncio.run(replay(spool, name, CACHE, store)), stored


# Named like a record: what cannot be opened, or is opened and cannot be read (EIO).
UNREADABLE = ("folder", "loop", "io error")


def add_unreadable(folder, kind):
    """Add a record that cannot be read; return its name."""
    name = f"{UNREADABLE.index(kind)}" * 64
    path = folder / name
    if kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(path if kind == "loop" else "/proc/self/mem")
    return name
