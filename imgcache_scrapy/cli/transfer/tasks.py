"""Task: one capture to import, and where its bytes are; and the list of tasks, which is on disk."""

import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, Self

from imgcache_scrapy.cli.transfer.uses import MAX_USES, Fields
from imgcache_scrapy.core.checks import checked_client_name, checked_text, checked_time
from imgcache_scrapy.core.errors import InvalidRequestError
from imgcache_scrapy.core.image_url import ImageUrl
from imgcache_scrapy.core.keys import cache_key
from imgcache_scrapy.core.response_info import CONVERTED
from imgcache_scrapy.core.times import EPOCH, microseconds
from imgcache_scrapy.core.urls import fetchable


class Place(NamedTuple):
    """Where the bytes of a task are.

    Attributes:
        kind: `file`, `folder` of a response, or `database`.
        name: the path in the folder.
        key: the key in the database.
    """

    kind: str
    name: str
    key: str = ""

    def packed(self) -> str:
        """Return the place as a text."""
        return json.dumps(self)

    @classmethod
    def unpacked(cls, text: str) -> Self:
        """Return the place of a text."""
        return cls(*json.loads(text))


class Task(NamedTuple):
    """One capture to import: this URL gave the image in this file then.

    Attributes:
        place: which file has the bytes; a reader knows what it means.
        url: the URL.
        time: when it was fetched, in microseconds since 1970.
        size: the size of the file in bytes.
        has_time: False if the time is only that of the file.
        key: the cache key if it is not that of the URL.
        bucket: the bucket.
        client_name: the client that fetched it.
        filename: the original file name.
        headers: the headers of the site's response; the mark `CONVERTED` may be among them.
        final_url: the URL that gave the image after redirects.
        origin_hash: the hash of the bytes of the site, if a list says it.
        cache_key: what the cache compares.
        uses: the uses of the image that its lists say.
        accept: the header `Accept` of the request; None if it is not known.
    """

    place: str
    url: str
    time: int
    size: int
    has_time: bool
    key: str | None
    bucket: str
    client_name: str
    filename: str | None
    headers: dict[str, str]
    final_url: str | None
    origin_hash: str | None
    cache_key: str
    uses: Sequence[Fields] = ()
    accept: str | None = None

    @property
    def lookup_time(self) -> datetime:
        """When the image was fetched."""
        return EPOCH + timedelta(microseconds=self.time)


class Defaults(NamedTuple):
    """What a task has if its row does not say it.

    Attributes:
        bucket: the bucket.
        client_name: the client that fetched the image; None for what the source says.
        converted: whether the files are converted; None if the source decides.
        key_of: computes the cache key of a URL.
    """

    bucket: str = ""
    client_name: str | None = None
    converted: bool | None = None
    key_of: Callable[[str], str] = cache_key

    def task(self, place: str, url: str, size: int, modified: float, **facts: Any) -> Task:
        """Create a task.

        Args:
            place: which file has the bytes.
            url: the URL, as an item has it.
            size: the size of the file in bytes.
            modified: when the file was modified, in seconds since 1970.
            facts: values by the names of an entry, of any type: they may come from the web.

        Raises:
            InvalidRequestError: the URL, or a fact, is not valid.
        """
        time = checked_time(_text("lookup_time", facts))
        headers = facts.get("headers") or {}
        if not isinstance(headers, dict):
            raise InvalidRequestError("its headers are not an object")
        converted = self.converted if self.converted is not None else facts.get("converted")
        headers = {name: text for name, text in headers.items() if name != CONVERTED}
        key, bucket, accept = _text("key", facts), _text("bucket", facts), facts.get("accept")
        its_url = self._image_url(url, key)
        return Task(
            place,
            its_url.url,
            _time_of(time, modified),
            size,
            time is not None and time <= datetime.now(UTC),
            key,
            self.bucket if bucket is None else bucket,
            checked_client_name(self.client_name or _text("client_name", facts) or "import"),
            _text("original_filename", facts),
            {CONVERTED: "yes", **headers} if converted is True else headers,
            _text("final_url", facts),
            _text("content_hash", facts),
            its_url.key,
            facts.get("uses", ()),
            None if accept is None else checked_text("its accept", accept),
        )

    def _image_url(self, url: object, key: str | None) -> ImageUrl:
        try:
            return ImageUrl.of(fetchable(url), key, self.key_of)
        except ValueError as error:
            raise InvalidRequestError(f"its URL is not valid: {error}") from error


class TaskList:
    """A list of tasks in a temporary file, oldest first; a task that is given twice counts once."""

    def __init__(self) -> None:
        self._database = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._database.execute(
            "CREATE TABLE task (time INTEGER, digest BLOB, task TEXT, PRIMARY KEY (digest))"
            " WITHOUT ROWID"
        )
        self._database.execute(
            "CREATE TABLE use (digest BLOB, text TEXT, PRIMARY KEY (digest, text)) WITHOUT ROWID"
        )
        self._database.execute("BEGIN")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()

    def add(self, task: Task) -> None:
        """Add a task."""
        text = json.dumps(task._replace(uses=()))
        parts = json.dumps([task.place, task.url, task.key, task.bucket, task.time])
        digest = hashlib.blake2b(parts.encode(), digest_size=16).digest()
        self._database.execute(
            "INSERT OR IGNORE INTO task VALUES (?, ?, ?)", (task.time, digest, text)
        )
        # Each of the items that show an image is a use of it.
        for use in task.uses:
            values = (digest, json.dumps(use))
            self._database.execute("INSERT OR IGNORE INTO use VALUES (?, ?)", values)

    def __len__(self) -> int:
        return int(self._database.execute("SELECT count(*) FROM task").fetchone()[0])

    def __iter__(self) -> Iterator[Task]:
        # The captures of a URL must be recorded in their order.
        query = "SELECT task, digest FROM task ORDER BY time, digest"
        with closing(self._database.execute(query)) as rows:
            for text, digest in rows:
                yield Task(*json.loads(text))._replace(uses=self._uses(digest))

    def _uses(self, digest: bytes) -> list[Fields]:
        query = "SELECT text FROM use WHERE digest = ? LIMIT ?"
        rows = self._database.execute(query, (digest, MAX_USES))
        return [json.loads(text) for (text,) in rows]


def _text(name: str, facts: dict[str, Any]) -> str | None:
    value = facts.get(name)
    return None if value is None or value == "" else checked_text(f"its {name}", value)


def _time_of(time: datetime | None, modified: float) -> int:
    found = int(modified * 1_000_000) if time is None else microseconds(time)
    # A time ahead of the clock is that of a wrong clock.
    return max(0, min(found, microseconds(datetime.now(UTC))))
