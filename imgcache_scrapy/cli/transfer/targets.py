"""Targets of an import: the cache itself, or for a dry run one that only counts."""

import asyncio
import json
import sqlite3
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Literal

from imgcache_scrapy.cli.transfer.reader import Loaded
from imgcache_scrapy.cli.transfer.tasks import Task
from imgcache_scrapy.client.client import AsyncImgCacheClient
from imgcache_scrapy.core.blocked import Source, sources_of
from imgcache_scrapy.core.errors import ProtocolError, blocked, blocked_source
from imgcache_scrapy.core.times import microseconds

if TYPE_CHECKING:
    from imgcache_scrapy.core.entry import Entry

Outcome = Literal["stored", "duplicate"]
Newest = tuple[str, int]
"""The hash of an image, and its time in microseconds since 1970."""


class CacheTarget:
    """Records captures in a cache.

    Args:
        client: a client of the cache, whose own bucket is "".
    """

    def __init__(self, client: AsyncImgCacheClient) -> None:
        self._client = client

    async def newest(self, tasks: Sequence[Task]) -> dict[str, Newest]:
        """Return the newest image of each task's key in the cache, if any.

        Args:
            tasks: tasks of different keys.
        """
        by_bucket: dict[str, list[Task]] = defaultdict(list)
        keyed: list[Task] = []
        for task in tasks:
            (by_bucket[task.bucket] if task.key is None else keyed).append(task)
        found: dict[str, Entry] = {}
        for bucket, its_tasks in by_bucket.items():
            urls = [task.url for task in its_tasks]
            entries = await self._client.lookup_many(urls, bucket=bucket)
            found |= {
                each.cache_key: entries[each.url] for each in its_tasks if each.url in entries
            }
        lookups = (
            self._client.lookup(each.url, key=each.key, bucket=each.bucket) for each in keyed
        )
        for task, entry in zip(keyed, await asyncio.gather(*lookups), strict=True):
            if entry is not None:
                found[task.cache_key] = entry
        return {
            key: (entry["content_hash"], _microseconds(entry["lookup_time"]))
            for key, entry in found.items()
        }

    async def has_older(self, loaded: Loaded) -> bool:
        """Return whether an older capture of the URL has this image, which is not damaged."""
        task, content_hash = loaded.task, loaded.content_hash
        try:
            captures = await self._client.history(task.url, key=task.key, bucket=task.bucket)
        except ProtocolError:  # A service of another implementation has no histories.
            return False
        is_there = any(
            each["content_hash"] == content_hash
            and (not task.has_time or _microseconds(each["lookup_time"]) == task.time)
            for each in captures
        )
        return is_there and await self._client.get_meta(content_hash) is not None

    async def store(self, loaded: Loaded) -> Outcome:
        """Record the capture, and store the image if it is new.

        Raises:
            ImgCacheError: the cache refuses the image, or fails.
        """
        task = loaded.task
        entry = await self._client.store(
            task.url,
            loaded.data,
            task.client_name,
            task.lookup_time,
            task.filename,
            key=task.key,
            bucket=task.bucket,
            headers=task.headers,
            final_url=task.final_url,
            accept=task.accept,
        )
        return "stored" if entry["created"] else "duplicate"

    async def record_uses(self, all_loaded: Sequence[Loaded]) -> None:
        """Record the uses of images; those that the cache does not have are left out."""
        uses = [
            {
                **use,
                "content_hash": each.content_hash,
                "url": each.task.url,
                "key": each.task.cache_key,
                "bucket": each.task.bucket,
            }
            for each in all_loaded
            for use in each.task.uses
        ]
        if uses:
            with suppress(ProtocolError):  # A service of another implementation has no uses.
                await self._client.record_uses(uses)


class DryTarget(CacheTarget):
    """Counts what a `CacheTarget` would record; use `open` to create it.

    Args:
        client: a client of the cache.
        refused: the blocked images, by their hashes, and the blocked hosts and URLs.
    """

    def __init__(self, client: AsyncImgCacheClient, refused: set[str | Source]) -> None:
        super().__init__(client)
        self._refused = refused
        self._database = sqlite3.connect("", isolation_level=None)
        self._database.execute("CREATE TABLE image (hash TEXT PRIMARY KEY) WITHOUT ROWID")
        self._database.execute(
            "CREATE TABLE capture (name TEXT, time INTEGER, hash TEXT,"
            " PRIMARY KEY (name, time, hash)) WITHOUT ROWID"
        )
        self._database.execute("BEGIN")

    @classmethod
    async def open(cls, client: AsyncImgCacheClient) -> "DryTarget":
        """Create the target."""
        refused: set[str | Source] = set()
        with suppress(ProtocolError):
            for each in await client.blocked():
                if each["content_hash"] is not None:
                    refused.add(each["content_hash"])
                elif each["host"] is not None:
                    refused.add(Source("host", each["host"]))
                else:
                    refused.add(Source("url", each["url"] or ""))
        return cls(client, refused)

    async def newest(self, tasks: Sequence[Task]) -> dict[str, Newest]:
        """Do the same as for a cache that has what would have been recorded."""
        found = await super().newest(tasks)
        query = "SELECT hash, time FROM capture WHERE name = ? ORDER BY time DESC LIMIT 1"
        for task in tasks:
            row = self._database.execute(query, [self._name(task)]).fetchone()
            key = task.cache_key
            if row is not None and (key not in found or row[1] >= found[key][1]):
                found[key] = row
        return found

    async def has_older(self, loaded: Loaded) -> bool:
        """Do the same as for a cache that has what would have been recorded."""
        task = loaded.task
        rows = self._database.execute(
            "SELECT time FROM capture WHERE name = ? AND hash = ?",
            [self._name(task), loaded.content_hash],
        )
        if any(not task.has_time or time == task.time for (time,) in rows.fetchall()):
            return True
        return await super().has_older(loaded)

    async def store(self, loaded: Loaded) -> Outcome:
        """Return what a store would do."""
        task, content_hash = loaded.task, loaded.content_hash
        for source in sources_of(task.url, task.cache_key, task.final_url) & self._refused:
            raise blocked_source(*source)
        if content_hash in self._refused:
            raise blocked(content_hash)
        captures = []
        with suppress(ProtocolError):
            captures = await self._client.captures(content_hash, limit=1)
        values = [self._name(task), task.time, content_hash]
        self._database.execute("INSERT OR IGNORE INTO capture VALUES (?, ?, ?)", values)
        image = self._database.execute("INSERT OR IGNORE INTO image VALUES (?)", [content_hash])
        return "stored" if image.rowcount and not captures else "duplicate"

    async def record_uses(self, all_loaded: Sequence[Loaded]) -> None:
        """Do nothing."""

    def _name(self, task: Task) -> str:
        return json.dumps([task.bucket, task.cache_key])


def _microseconds(time: str) -> int:
    return microseconds(datetime.fromisoformat(time))
