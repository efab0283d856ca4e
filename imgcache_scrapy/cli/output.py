"""How results are written."""

from rich.console import Console
from rich.table import Table

_UNLIMITED = 1_000_000
"""Columns; rich cuts what is longer."""


def print_table(table: Table) -> None:
    """Write a table to standard output, in its full width unless that is a terminal."""
    console = Console()
    if not console.is_terminal:
        console.width = _UNLIMITED
    console.print(table)
