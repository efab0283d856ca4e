"""Read the rows of a feed or a manifest: .jsonl, .json or .csv."""

import ast
import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from imgcache_scrapy.cli.transfer.confined import BadFileError
from imgcache_scrapy.cli.transfer.json_stream import MAX_VALUE, json_values
from imgcache_scrapy.core.errors import ConfigurationError

Row = tuple[str, str | None, Any]
"""Where a value is, for messages; its key in a JSON object, or None; and the value."""

_MAX_CELL = 2**24
_LINES = {".jsonl", ".jl", ".ndjson", ".jsonlines"}


def rows_of(path: Path) -> Iterator[Row | BadFileError]:
    """Yield the rows of a file; a line that cannot be read is an error, and the next ones follow.

    Args:
        path: the file; its suffix says its format.

    Raises:
        ConfigurationError: its format is not known, or it cannot be read.
    """
    suffix = path.suffix.lower()
    readers = {".json": _values, ".csv": _records, **dict.fromkeys(_LINES, _lines)}
    if suffix not in readers:
        raise ConfigurationError(f"{path} has no known format: use .jsonl, .json or .csv")
    try:
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            yield from readers[suffix](file)
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from error


def parsed_cell(text: str) -> Any:
    """Read the value in a cell of CSV: JSON, or the text that Python prints of lists and dicts.

    Returns:
        The value; the text itself if it is neither.
    """
    if text[:1] not in {"[", "{"}:
        return text
    for parse in (json.loads, ast.literal_eval):
        try:
            return parse(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
            continue
    return text


def _lines(file: IO[str]) -> Iterator[Row | BadFileError]:
    number = 0
    while line := file.readline(MAX_VALUE):
        number += 1
        if not line.strip():
            continue
        try:
            yield f"line {number}", None, json.loads(line)
        except (ValueError, RecursionError):
            yield BadFileError(f"line {number} is not JSON")


def _values(file: IO[str]) -> Iterator[Row | BadFileError]:
    try:
        for number, (key, value) in enumerate(json_values(file), 1):
            yield f"value {number}", key, value
    except BadFileError as error:
        yield error


def _records(file: IO[str]) -> Iterator[Row | BadFileError]:
    csv.field_size_limit(_MAX_CELL)
    records = csv.DictReader(file)
    try:
        for record in records:
            yield f"line {records.line_num}", None, record
    except csv.Error as error:
        yield BadFileError(f"line {records.line_num} is not CSV: {error}")
