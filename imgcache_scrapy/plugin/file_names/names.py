"""Names: gives the pictures of a crawl their paths, if IMGCACHE_PATH is set."""

from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

from itemadapter import ItemAdapter
from scrapy import Request

from imgcache_scrapy.plugin.file_names.order import ArrivalOrder, digest, same_file
from imgcache_scrapy.plugin.file_names.path_index import Claim, PathIndex
from imgcache_scrapy.plugin.file_names.path_template import NoValueError, PathTemplate

ANY_EXTENSION = "ext"
"""Stands for the extension where it is not known yet."""

_THUMBS = "thumbs"


@dataclass
class Name:
    """The name of one picture in one item.

    Attributes:
        problem: why there is no name; an empty string if there is one.
        values: the values of the item's fields.
        index: the position of the picture in the item, from 1.
        picture: digest of the picture's cache key.
        slot: digest of the path without its number and extension.
        identity: what tells this name from others.
        number: its number among the pictures with this path; final after `find` or `claim`.
        extension: the extension of the file; final after `find` or `claim`.
    """

    problem: str = ""
    values: dict[str, str] = field(default_factory=dict)
    index: int = 1
    picture: bytes = b""
    slot: bytes = b""
    identity: bytes = b""
    number: int = 1
    extension: str = ANY_EXTENSION


class Names:
    """The names of the pictures of one pipeline.

    Args:
        template: the checked template.
        store: identifies the store of the files.
        kind: the kind of the pipeline's files; the same picture has another file in each.
        index: remembers the names over crawls.
    """

    def __init__(self, template: PathTemplate, store: str, kind: str, index: PathIndex) -> None:
        self._template = template
        self._store = store
        self._kind = kind
        self._index = index
        self._order = ArrivalOrder()
        self._names: WeakKeyDictionary[Request, Name] = WeakKeyDictionary()

    def begin(self, request: Request, item: Any, index: int, key: str) -> None:
        """Start the name of a request; call it in the order of the requests.

        Args:
            request: the request of the picture.
            item: its item.
            index: its position in the item, from 1.
            key: the cache key of its URL.
        """
        try:
            values = self._template.values(ItemAdapter(item))
        except Exception as error:  # The text of a value may be made by the project's code.
            problem = str(error) if isinstance(error, NoValueError) else repr(error)
            self._names[request] = Name(problem, identity=digest(problem))
            return
        name = Name("", values, index, digest(self._kind, key))
        path = self._path(name, 1)
        name.slot, name.identity = self._file_digest(path), digest(path)
        name.number = self._order.number(name.slot, name.picture)
        self._names[request] = name

    def get(self, request: Request) -> Name | None:
        """Return the name of a request; None if it belongs to no item."""
        return self._names.get(request)

    def path(self, request: Request) -> str:
        """Return the path of a request; it is final after `find` or `claim`.

        Raises:
            NoValueError: the item has no value for a field.
            LookupError: the request belongs to no item.
        """
        name = self._names.get(request)
        if name is None:
            raise LookupError("IMGCACHE_PATH names only the pictures that an item requests")
        if name.problem:
            raise NoValueError(name.problem)
        return self._path(name, name.number)

    async def find(self, request: Request) -> bool:
        """Return whether the file of a request was written before."""
        name = self._names.get(request)
        if name is None or name.problem:
            return False
        found = await self._index.find(name.slot, name.picture)
        if found is None:
            return False
        name.number, name.extension = found
        return True

    async def claim(self, name: Name, extension: str, content_hash: str) -> None:
        """Give a picture a path that no other picture has.

        Args:
            name: the name of the picture.
            extension: the extension of its file.
            content_hash: the hash of its bytes.
        """
        name.extension = extension
        claim = Claim(
            name.slot,
            name.picture,
            f"{self._kind} {content_hash}",
            extension,
            self._order.number(name.slot, name.picture),
            self._order.pictures(name.slot),
            lambda number: self._file_digest(self._path(name, number)),
        )
        name.number = await self._index.claim(claim)

    async def settle(self, name: Name, *, is_written: bool) -> None:
        """Remember the path of a picture, or give it back if its file was not written."""
        settle = self._index.confirm if is_written else self._index.release
        await settle(name.slot, name.picture)

    def close(self) -> None:
        """Close the index."""
        self._index.close()

    def _file_digest(self, path: str) -> bytes:
        return digest(self._store, same_file(path))

    def _path(self, name: Name, number: int) -> str:
        path = self._template.render(name.values, name.index, name.extension, number)
        first, separator, rest = path.partition("/")
        # The thumbnails are there.
        is_taken = self._kind == "image" and same_file(first) == _THUMBS
        return f"{first}_{separator}{rest}" if is_taken else path
