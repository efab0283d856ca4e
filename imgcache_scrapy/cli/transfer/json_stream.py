"""Read a large JSON file value by value, so that it is never in memory as a whole."""

import json
import re
from collections.abc import Iterator
from typing import IO, Any

from imgcache_scrapy.cli.transfer.confined import BadFileError

MAX_VALUE = 2**26
"""Maximum characters of one value."""

_PART = 2**20
_SPACE = re.compile(r"[ \t\n\r\ufeff]*")
_ENDS = {"[": "]", "{": "}"}


def json_values(file: IO[str]) -> Iterator[tuple[str | None, Any]]:
    """Yield the values of a JSON array or object.

    Args:
        file: the file, open for reading.

    Yields:
        The key of each value, None in an array; and the value.

    Raises:
        BadFileError: the file is not a JSON array or object.
    """
    text = _Text(file)
    start = text.take()
    if start not in _ENDS:
        raise BadFileError("the file is not a JSON array or object")
    if text.peek() == _ENDS[start]:
        return
    while True:
        key = None
        if start == "{":
            key = text.value()
            if not isinstance(key, str) or text.take() != ":":
                raise BadFileError("the file is not JSON: a key is missing")
        yield key, text.value()
        following = text.take()
        if following == _ENDS[start]:
            return
        if following != ",":
            raise BadFileError("the file is not JSON: it ends too early, or a comma is missing")


class _Text:
    """The text of a file, of which only a part is in memory."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file
        self._text = ""
        self._at = 0
        self._decoder = json.JSONDecoder()

    def peek(self) -> str:
        """Return the next character that is no white space; an empty string at the end."""
        while True:
            self._at = _SPACE.match(self._text, self._at).end()  # type: ignore[union-attr]
            if self._at < len(self._text) or not self._read_more(_PART):
                return self._text[self._at : self._at + 1]

    def take(self) -> str:
        """Return the next character that is no white space, and go on after it."""
        character = self.peek()
        self._at += 1
        return character

    def value(self) -> Any:
        """Return the next value, and go on after it."""
        size = _PART
        while True:
            self.peek()
            try:
                value, end = self._decoder.raw_decode(self._text, self._at)
                # A number at the end of the text may go on.
                if end < len(self._text) or not self._read_more(size):
                    self._at = end
                    return value
            except (ValueError, RecursionError) as error:
                if len(self._text) - self._at > MAX_VALUE or not self._read_more(size):
                    raise BadFileError(f"the file is not JSON: {error}") from error
                # Each value is parsed a few times at most.
                size *= 2

    def _read_more(self, size: int) -> bool:
        more = self._file.read(size)
        self._text, self._at = self._text[self._at :] + more, 0
        return bool(more)
