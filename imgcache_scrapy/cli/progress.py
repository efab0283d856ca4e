"""Show the progress of long work: a bar on a terminal, a line from time to time in a log."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bar

if TYPE_CHECKING:
    from imgcache_scrapy.cli.transfer.sources import Problem

INTERRUPTED = 130
"""The exit code after Ctrl-C."""

_SECONDS = 10


class Progress:
    """Shows on standard error how much is done.

    Args:
        what: what is done, for example `Importing`.
        bar: the bar; it is disabled if standard error is no terminal.
    """

    def __init__(self, what: str, bar: Bar) -> None:
        self._what = what
        self._bar = bar
        self._task = bar.add_task(what, total=None)
        self._done = 0
        self._total: int | None = None
        self._next = time.monotonic() + _SECONDS

    def set_total(self, total: int) -> None:
        """Set the number of steps."""
        self._total = total
        self._bar.update(self._task, total=total)

    def advance(self, steps: int) -> None:
        """Add steps that were done."""
        self._done += steps
        self._bar.advance(self._task, steps)
        if self._bar.disable and time.monotonic() >= self._next:
            self._next = time.monotonic() + _SECONDS
            of_total = "" if self._total is None else f" of {self._total:,}"
            typer.echo(f"{self._what}: {self._done:,}{of_total}", err=True)

    def print_line(self, line: str) -> None:
        """Print a line on standard error, above the bar."""
        if self._bar.disable:
            typer.echo(line, err=True)
        else:
            self._bar.console.print(line, markup=False, highlight=False, soft_wrap=True)


@contextmanager
def progress(what: str) -> Iterator[Progress]:
    """Show the progress of a block; see `Progress`."""
    screen = Console(stderr=True)
    bar = Bar(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=screen,
        disable=not screen.is_terminal,
    )
    with bar:
        yield Progress(what, bar)


def report(problem: "Problem", shown: Progress, *, as_json: bool) -> None:
    """Print a problem: as a line on standard error, or as JSON on standard output."""
    if as_json:
        typer.echo(json.dumps(problem._asdict()))
    else:
        shown.print_line(f"{problem.file}: {problem.reason}")


@contextmanager
def explaining_interrupts(shown: Progress) -> Iterator[None]:
    """Print what to do after Ctrl-C, and exit."""
    try:
        yield
    except KeyboardInterrupt as error:
        shown.print_line("Interrupted: run the same command again to go on.")
        raise typer.Exit(INTERRUPTED) from error
