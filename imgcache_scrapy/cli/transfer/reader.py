"""Reader: reads the bytes of tasks."""

import threading
from dataclasses import dataclass, replace
from typing import Any

from imgcache_scrapy.cli.transfer import http_cache
from imgcache_scrapy.cli.transfer.confined import BadFileError, ConfinedFolder
from imgcache_scrapy.cli.transfer.tasks import Place, Task
from imgcache_scrapy.core.entry import content_hash_of
from imgcache_scrapy.core.formats import sniff
from imgcache_scrapy.core.lazy import lazy_property
from imgcache_scrapy.core.response_info import CONVERTED


@dataclass(frozen=True)
class Loaded:
    """A task and its bytes.

    Attributes:
        task: the task.
        data: the bytes; empty if there are none.
        error: why there are no bytes; None if there are.
    """

    task: Task
    data: bytes = b""
    error: str | None = None

    @lazy_property
    def content_hash(self) -> str:
        """The hash of the bytes; it is computed when it is needed, because a store does so, too."""
        return content_hash_of(self.data)


class Reader:
    """Reads the bytes of tasks, from any thread.

    Args:
        folder: the folder that is imported.
    """

    def __init__(self, folder: ConfinedFolder) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._database: tuple[str, Any] | None = None

    def load(self, task: Task) -> Loaded:
        """Read the bytes of a task."""
        try:
            loaded = Loaded(task, self._data(Place.unpacked(task.place)))
        except BadFileError as error:
            return Loaded(task, error=str(error))
        if CONVERTED in task.headers and (
            sniff(loaded.data) != "image/jpeg" or task.origin_hash == loaded.content_hash
        ):
            headers = {name: text for name, text in task.headers.items() if name != CONVERTED}
            loaded = replace(loaded, task=task._replace(headers=headers))
        return loaded

    def close(self) -> None:
        """Close the database that is open."""
        if self._database is not None:
            self._database[1].close()
            self._database = None

    def _data(self, place: Place) -> bytes:
        if place.kind == "folder":
            stored = http_cache.stored_in_folder(self._folder, place.name, with_body=True)
            return stored.content()
        if place.kind == "database":
            with self._lock:
                stored = http_cache.response_in(self._opened(place.name), place.key)
            return stored.content()
        return self._folder.read(place.name)

    def _opened(self, name: str) -> Any:
        if self._database is None or self._database[0] != name:
            self.close()
            self._database = name, http_cache.open_database(self._folder.root / name)
        return self._database[1]
