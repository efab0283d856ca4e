"""Print results to standard output, or write one to a file."""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from secrets import token_hex
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from imgcache_scrapy.core.files import real_path, write_new
from imgcache_scrapy.core.text import printable

# In characters; rich shortens longer lines.
_MAX_WIDTH = 1_000_000

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")]


def print_table(table: Table) -> None:
    """Print a table to standard output; if that is not a terminal, no line is shortened."""
    console = Console()
    if not sys.stdout.isatty():  # The variable FORCE_COLOR makes any output a terminal for rich.
        console.width = _MAX_WIDTH
    console.print(table)


def end_with_counts(
    counts: Mapping[str, int], names: Sequence[str], text: str, *, as_json: bool
) -> NoReturn:
    """Print what a long command has done, and end it; the exit code is 1 if some were `bad`.

    Args:
        counts: the numbers of what was done.
        names: the names of those that JSON has.
        text: the numbers for people.
        as_json: whether to print them as one line of JSON instead.
    """
    typer.echo(json.dumps({name: counts[name] for name in names}) if as_json else text)
    raise typer.Exit(bool(counts["bad"]))


def print_rows(rows: Iterable[Mapping[str, Any]], columns: Sequence[str], *, as_json: bool) -> None:
    """Print a list, as a table or as JSON.

    Args:
        rows: the rows of the list.
        columns: the keys that the table shows.
        as_json: whether to print each row, with all its keys, as one line of JSON instead.
    """
    if as_json:
        for row in rows:
            typer.echo(json.dumps(row))
        return
    table = Table(*columns)
    for row in rows:
        shown = ("" if row[name] is None else printable(row[name]) for name in columns)
        table.add_row(*map(Text, shown))
    print_table(table)


def replace_file(path: Path, data: bytes) -> None:
    """Write a file, or replace it: nobody sees a part of it.

    Raises:
        OSError: with the name of the file.
    """
    path = real_path(path)
    draft = path.with_name(f".{path.name[:40]}.{token_hex(8)}")
    try:
        if path.exists() and not path.is_file():  # a device, or a pipe
            path.write_bytes(data)
            return
        write_new(draft, data)
        draft.replace(path)
    except BaseException as error:
        with suppress(OSError):
            draft.unlink()
        if isinstance(error, OSError):
            error.filename, error.filename2 = str(path), None
        raise
