"""FileExport: writes each image into a file of its own, with a manifest of JSON lines."""

import json
import os
import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path
from stat import S_ISREG
from typing import IO, NamedTuple

from imgcache_scrapy.cli.transfer.naming import name_of, with_hash
from imgcache_scrapy.cli.transfer.pictures import Picture
from imgcache_scrapy.core.entry import content_hash_of

_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_NOFOLLOW", 0)
_FLAGS |= getattr(os, "O_BINARY", 0)


class Planned(NamedTuple):
    """A picture and the name of its file.

    Attributes:
        picture: the picture.
        name: the path in the folder.
        is_there: whether the file is there already.
        row: the line of the manifest.
    """

    picture: Picture
    name: str
    is_there: bool
    row: str


class FileExport:
    """Exports pictures into the files of a folder, in the order in which they are given.

    Args:
        manifest: the path of the manifest; its folder is created, and gets the files.
        template: the template of the names.
    """

    def __init__(self, manifest: Path, template: str) -> None:
        self._folder = manifest.parent
        self._folder.mkdir(parents=True, exist_ok=True)
        self._template = template
        self._manifest = manifest
        self._names = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._names.execute("CREATE TABLE name (name TEXT PRIMARY KEY) WITHOUT ROWID")
        self._names.execute("BEGIN")
        self._take(manifest.name)
        self._folders: set[str] = set()
        self._draft = manifest.with_name(f".{manifest.name}.part")
        self._rows: IO[str] = self._draft.open("w", encoding="utf-8")

    def plan(self, pictures: Sequence[Picture]) -> list[Planned]:
        """Give each picture its name, and look whether its file is there."""
        planned = []
        for picture in pictures:
            name = name_of(picture, self._template)
            if not self._take(name):
                name = with_hash(name, picture.content_hash)
                self._take(name)
            # The line is made here, so that the thread that writes files has less to do.
            row = json.dumps(picture.facts(name))
            planned.append(Planned(picture, name, self._is_there(picture, name), row))
        return planned

    def write(self, planned: Iterable[tuple[Planned, bytes | None]]) -> None:
        """Write the files of pictures; one without bytes is left out, unless its file is there."""
        for (picture, name, is_there, row), data in planned:
            if data is not None:
                self._write(name, picture.content_hash, data)
            if data is not None or is_there:
                self._rows.write(f"{row}\n")

    def finish(self) -> list[str]:
        """Write the manifest.

        Returns:
            The files that only the manifest of an earlier export names.
        """
        self._rows.close()
        left = list(self._left())
        self._draft.replace(self._manifest)
        return left

    def close(self) -> None:
        """Close the files."""
        self._rows.close()
        self._names.close()

    def _take(self, name: str) -> bool:
        # Some file systems ignore the letter case.
        values = [name.casefold()]
        return bool(self._names.execute("INSERT OR IGNORE INTO name VALUES (?)", values).rowcount)

    def _is_there(self, picture: Picture, name: str) -> bool:
        try:
            found = os.lstat(f"{self._folder}/{name}")
            return (
                found.st_size == picture.size
                and S_ISREG(found.st_mode)
                and content_hash_of((self._folder / name).read_bytes()) == picture.content_hash
            )
        except OSError:
            return False

    def _write(self, name: str, content_hash: str, data: bytes) -> None:
        path = f"{self._folder}/{name}"  # A `Path` takes as long as the write.
        folder = path.rpartition("/")[0]
        if folder not in self._folders:
            Path(folder).mkdir(parents=True, exist_ok=True)
            self._folders.add(folder)
        draft = f"{folder}/.{content_hash}.part"
        # A draft that a killed export left is written again.
        with open(os.open(draft, _FLAGS, 0o666), "wb") as file:  # noqa: PTH123
            file.write(data)
        os.replace(draft, path)  # noqa: PTH105

    def _left(self) -> Iterable[str]:
        if not self._manifest.exists():
            return
        with self._manifest.open(encoding="utf-8") as rows:
            for row in rows:
                name = json.loads(row)["file_name"]
                query = "SELECT 1 FROM name WHERE name = ?"
                is_known = self._names.execute(query, [name.casefold()]).fetchone()
                if not is_known and (self._folder / name).exists():
                    yield name
