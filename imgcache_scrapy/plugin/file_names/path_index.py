"""PathIndex: remembers which picture has which path, in a small database of the project."""

import asyncio
import sqlite3
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, TypeVar

from imgcache_scrapy.core.concurrency import Batcher
from imgcache_scrapy.core.text import reason_of
from imgcache_scrapy.core.wal import use_wal
from imgcache_scrapy.plugin.file_names.order import Holder, numbers_to_try
from imgcache_scrapy.plugin.log import SpiderLogger

T = TypeVar("T")

_SCHEMA = """
create table if not exists names (
    slot blob, picture blob, number integer, extension text, file blob, content text,
    state integer, primary key (slot, picture)
) without rowid;
create index if not exists names_by_file on names (file);
"""
# The states of a name: its file was never written; it was; it is being written again.
_NEW, _WRITTEN, _AGAIN = 0, 1, 2
_RECORD = """
insert into names values (?, ?, ?, ?, ?, ?, ?) on conflict do update set
    number=excluded.number, extension=excluded.extension, file=excluded.file,
    content=excluded.content, state=case state when ? then ? else ? end
"""
_MAX_BATCH = 100
# Another crawl may write at the same time.
_MAX_WAIT = 10.0


class Claim(NamedTuple):
    """What a picture needs to get a path.

    Attributes:
        slot: digest of the path without its number and extension.
        picture: digest of the picture's cache key.
        content: the hash of its bytes.
        extension: the extension of its file.
        first: the number it gets if nobody has it.
        wanted: the pictures of this crawl that want the path.
        file: returns the digest of the path with a number.
    """

    slot: bytes
    picture: bytes
    content: str
    extension: str
    first: int
    wanted: AbstractSet[bytes]
    file: Callable[[int], bytes]


class PathIndex:
    """The names of the files that pictures have, in one SQLite file for all crawls of a project.

    It runs in a thread. If it fails, one warning is logged, and the crawl goes on without it: then
    no file counts as up to date, and numbers are those of the crawl alone.

    Args:
        path: the file of the database; it is created at the first call.
        log: the log of the crawl.
    """

    def __init__(self, path: Path, log: SpiderLogger) -> None:
        self._path = path
        self._log = log
        self._thread = ThreadPoolExecutor(1, "imgcache-paths")
        self._connection: sqlite3.Connection | None = None
        self._has_failed = False
        # One change of threads serves many pictures.
        self._finder: Batcher[tuple[bytes, bytes], tuple[int, str]] = Batcher(
            self._find_many, max_batch=_MAX_BATCH
        )

    async def find(self, slot: bytes, picture: bytes) -> tuple[int, str] | None:
        """Return the number and the extension of a picture whose file was written; else None."""
        return await self._finder.ask((slot, picture))

    async def claim(self, claim: Claim) -> int:
        """Return the number that a picture gets; no other picture gets the same path."""
        return await self._run(lambda db: _claim(db, claim), claim.first)

    async def confirm(self, slot: bytes, picture: bytes) -> None:
        """Remember that the file of a picture was written."""
        update = "update names set state=? where slot=? and picture=?"
        await self._run(lambda db: _execute(db, update, _WRITTEN, slot, picture), None)

    async def release(self, slot: bytes, picture: bytes) -> None:
        """Give the path of a picture back if its file was never written."""
        delete = "delete from names where state=? and slot=? and picture=?"
        await self._run(lambda db: _execute(db, delete, _NEW, slot, picture), None)

    def close(self) -> None:
        """Close the database, after the calls that were made before."""
        self._thread.submit(self._close)
        self._thread.shutdown(wait=False)

    async def _find_many(
        self, pictures: list[tuple[bytes, bytes]]
    ) -> dict[tuple[bytes, bytes], tuple[int, str]]:
        return await self._run(lambda db: _find_many(db, pictures), {})

    async def _run(self, call: Callable[[sqlite3.Connection], T], otherwise: T) -> T:
        if self._has_failed:
            return otherwise
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._thread, lambda: call(self._open()))
        except (OSError, sqlite3.Error) as error:
            if not self._has_failed:
                self._has_failed = True
                self._log.warning(
                    "The names of files cannot be remembered, so files are written again and two "
                    "crawls may choose different names: %s: %s",
                    self._path,
                    reason_of(error),
                )
            return otherwise

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(self._path, timeout=_MAX_WAIT, isolation_level=None)
            try:
                use_wal(connection, _MAX_WAIT)
                connection.execute("pragma synchronous=normal")
                connection.executescript(_SCHEMA)
            except sqlite3.Error:
                connection.close()
                raise
            self._connection = connection
        return self._connection

    def _close(self) -> None:
        if self._connection is not None:
            with suppress(sqlite3.Error):
                self._connection.close()


def _find_many(
    db: sqlite3.Connection, pictures: list[tuple[bytes, bytes]]
) -> dict[tuple[bytes, bytes], tuple[int, str]]:
    query = "select number, extension from names where slot=? and picture=? and state=?"
    found = {each: db.execute(query, (*each, _WRITTEN)).fetchone() for each in pictures}
    return {each: name for each, name in found.items() if name is not None}


def _execute(db: sqlite3.Connection, statement: str, *values: object) -> None:
    db.execute(statement, values)


def _claim(db: sqlite3.Connection, claim: Claim) -> int:
    db.execute("begin immediate")
    try:
        number = _choose(db, claim)
        row = [*claim[:2], number, claim.extension, claim.file(number), claim.content, _NEW]
        db.execute(_RECORD, [*row, _NEW, _NEW, _AGAIN])
        db.execute("commit")
    except BaseException:
        db.execute("rollback")
        raise
    return number


def _choose(db: sqlite3.Connection, claim: Claim) -> int:
    query = "select picture, number, content from names where slot=?"
    holders = [Holder(*row) for row in db.execute(query, (claim.slot,))]
    for number in numbers_to_try(holders, claim.picture, claim.content, claim.first, claim.wanted):
        query = "select slot, picture, content from names where file=?"
        mine = (claim.slot, claim.picture)
        rows = db.execute(query, (claim.file(number),)).fetchall()
        others = [row for row in rows if row[:2] != mine]
        if all(content == claim.content for *_, content in others):
            # The picture had other URLs before. Without this, each new one would need space.
            old = [row[:2] for row in others if row[0] == claim.slot and row[1] not in claim.wanted]
            db.executemany("delete from names where slot=? and picture=?", old)
            break
    return number
