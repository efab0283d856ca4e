"""Print results to standard output."""

from rich.console import Console
from rich.table import Table

# In characters; rich shortens longer lines.
_MAX_WIDTH = 1_000_000


def print_table(table: Table) -> None:
    """Print a table to standard output; if that is not a terminal, no line is shortened."""
    console = Console()
    if not console.is_terminal:
        console.width = _MAX_WIDTH
    console.print(table)
