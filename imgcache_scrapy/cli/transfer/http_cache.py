"""Read the folders of Scrapy's HttpCache: its files, and its databases; no pickle is trusted."""

import ast
import dbm
import io
import pickle
import re
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, NamedTuple, cast

from imgcache_scrapy.cli.transfer.confined import BadFileError, ConfinedFolder, gunzipped, is_gzip
from imgcache_scrapy.core.limits import MAX_IMAGE_BYTES

_FINGERPRINT = re.compile(r"[0-9a-f]{40}")
_MAX_META = 2**20
_OK = 200
# The page may have two URLs of 64 KB, and headers.
_MAX_PICKLE = MAX_IMAGE_BYTES + 2**21
_DATA = b"_data"
_SAFE_CLASSES = {("ipaddress", "IPv4Address"), ("ipaddress", "IPv6Address")}


class Stored(NamedTuple):
    """A response in an HttpCache.

    Attributes:
        url: the URL that was asked for.
        status: the HTTP status.
        method: the method of the request.
        time: when it was stored, in seconds since 1970; 0 if it is not known.
        headers: the headers of the response.
        body: the body, as it was stored.
        has_question: whether the request had a body, so that its URL does not name the image.
        accept: the header `Accept` of the request; None if it is not known.
    """

    url: str
    status: int
    method: str
    time: float
    headers: dict[str, str]
    body: bytes
    has_question: bool = False
    accept: str | None = None

    @property
    def is_answer(self) -> bool:
        """Whether it is the complete answer to a GET without a body."""
        return self.status == _OK and self.method == "GET" and not self.has_question

    def content(self) -> bytes:
        """Return the body without the compression of the transfer.

        Raises:
            BadFileError: it is damaged or too large, or its compression is not known.
        """
        coding = self.headers.get("Content-Encoding", "identity").lower()
        if coding in {"gzip", "x-gzip"}:
            return gunzipped(self.body)
        if coding not in {"identity", ""}:
            raise BadFileError("the compression of the response is not supported")
        return self.body


def is_stored_folder(path: Path) -> bool:
    """Return whether a folder is that of one response in Scrapy's `FilesystemCacheStorage`."""
    is_named = _FINGERPRINT.fullmatch(path.name) is not None
    return is_named and (path / "meta").is_file() and (path / "response_body").is_file()


def stored_in_folder(folder: ConfinedFolder, name: str, *, with_body: bool) -> Stored:
    """Read the folder of one response.

    Args:
        folder: the folder that is imported.
        name: the path of the response's folder in it.
        with_body: whether to read the body.

    Raises:
        BadFileError: it is damaged.
    """
    # If Scrapy compresses one of the files, it compresses all. A body may be compressed anyway.
    is_zipped = is_gzip(folder.read(f"{name}/meta", _MAX_META))

    def read(part: str, max_bytes: int) -> bytes:
        data = folder.read(f"{name}/{part}", max_bytes)
        return gunzipped(data, max_bytes) if is_zipped else data

    try:
        meta = ast.literal_eval(read("meta", _MAX_META).decode())
        url, status, method, time = (
            meta[part] for part in ("url", "status", "method", "timestamp")
        )
    except (ValueError, SyntaxError, RecursionError, MemoryError, KeyError, TypeError) as error:
        raise BadFileError("the file `meta` of the response is damaged") from error
    headers = _headers_in(read("response_headers", _MAX_META))
    accept = None
    with suppress(BadFileError):  # An image without this file is good, too.
        accept = _headers_in(read("request_headers", _MAX_META)).get("Accept", "")
    body = read("response_body", MAX_IMAGE_BYTES) if with_body else b""
    question = b""
    if (folder.root / name / "request_body").exists():  # Other programs do not write it.
        question = read("request_body", MAX_IMAGE_BYTES)
    stored = Stored(url, status, method, time, headers, body, bool(question), accept)
    return _checked(stored)


def database_at(path: Path) -> Path | None:
    """Return the path of the database to which a file belongs; None if it is no database.

    Args:
        path: the path of a file: `spider.db`, or a part of such a database.
    """
    for base in (path, path.with_suffix("")):
        if base.suffix == ".db" and dbm.whichdb(str(base)):
            return base
    return None


def stored_in_database(path: Path) -> Iterator[tuple[str, Stored | BadFileError]]:
    """Yield the responses in a database of Scrapy's `DbmCacheStorage`, each with its key.

    Raises:
        BadFileError: the database cannot be opened.
    """
    with closing(open_database(path)) as database:
        for key in _keys(database):
            if key.endswith(_DATA):
                name = key[: -len(_DATA)].decode("latin-1")
                try:
                    yield name, response_in(database, name)
                except BadFileError as error:
                    yield name, error


def open_database(path: Path) -> Any:
    """Open a database for reading; the caller closes it.

    Raises:
        BadFileError: it cannot be opened.
    """
    try:
        return dbm.open(str(path), "r")
    except Exception as error:
        raise BadFileError("the database cannot be opened") from error


def _keys(database: Any) -> Iterator[bytes]:
    if not hasattr(database, "firstkey"):
        yield from database.keys()
        return
    key = database.firstkey()
    while key is not None:
        yield key
        key = database.nextkey(key)


def response_in(database: Any, key: str) -> Stored:
    """Read one response of a database.

    Raises:
        BadFileError: it is missing or damaged.
    """
    try:
        packed = database[f"{key}_data".encode("latin-1")]
        data = _Unpickler(io.BytesIO(packed)).load() if len(packed) <= _MAX_PICKLE else {}
        time = float(database.get(f"{key}_time".encode("latin-1"), b"0"))
        headers = {
            _decoded(name).title(): ", ".join(map(_decoded, values))
            for name, values in data["headers"].items()
        }
        return _checked(Stored(data["url"], data["status"], "GET", time, headers, data["body"]))
    # A pickle of a stranger may raise anything.
    except Exception as error:
        raise BadFileError("the response in the database is damaged or too large") from error


class _Unpickler(pickle.Unpickler):
    """Reads pickles of plain values, and imports nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _SAFE_CLASSES:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"{module}.{name} is not allowed")


def _decoded(value: object) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


def _headers_in(data: bytes) -> dict[str, str]:
    lines = (line.partition(":") for line in data.decode("latin-1").splitlines())
    return {before.strip().title(): after.strip() for before, _, after in lines if before}


def _checked(stored: Stored) -> Stored:
    kinds = (str, int, str, (int, float), dict, bytes, bool, (str, type(None)))
    values = zip(stored, kinds, strict=True)
    if not all(isinstance(value, cast("type", kind)) for value, kind in values):
        raise BadFileError("the response is damaged")
    return stored
