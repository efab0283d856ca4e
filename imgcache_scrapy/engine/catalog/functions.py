"""SQL functions that SQLite and PostgreSQL write differently."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement


class contains(FunctionElement[bool]):  # noqa: N801
    """SQL for "this column contains this text"; case-sensitive, and without special characters."""

    type = sa.Boolean()
    name = "contains"
    inherit_cache = True


@compiles(contains)
def _like(element: contains, compiler: Any, **options: Any) -> str:
    # Not strpos, which uses no index. The driver needs each percent sign doubled.
    column, text = (compiler.process(clause, **options) for clause in element.clauses)
    for special in ("\\", "%%", "_"):
        text = f"replace({text}, '{special}', '\\{special}')"
    return f"{column} LIKE '%%' || {text} || '%%'"


@compiles(contains, "sqlite")
def _instr(element: contains, compiler: Any, **options: Any) -> str:
    return f"instr({compiler.process(element.clauses, **options)}) > 0"


class not_by_index(FunctionElement[bytes]):  # noqa: N801
    """SQL for a column whose index SQLite must not use; PostgreSQL has statistics to decide."""

    type = sa.LargeBinary()
    name = "not_by_index"
    inherit_cache = True


@compiles(not_by_index)
def _same(element: not_by_index, compiler: Any, **options: Any) -> str:
    return str(compiler.process(element.clauses, **options))


@compiles(not_by_index, "sqlite")
def _plus(element: not_by_index, compiler: Any, **options: Any) -> str:
    return f"+{compiler.process(element.clauses, **options)}"


class hexadecimal(FunctionElement[str]):  # noqa: N801
    """SQL for bytes as hex digits, which JSON can contain."""

    type = sa.Text()
    name = "hexadecimal"
    inherit_cache = True


@compiles(hexadecimal)
def _encode(element: hexadecimal, compiler: Any, **options: Any) -> str:
    return f"encode({compiler.process(element.clauses, **options)}, 'hex')"


@compiles(hexadecimal, "sqlite")
def _hex(element: hexadecimal, compiler: Any, **options: Any) -> str:
    return f"hex({compiler.process(element.clauses, **options)})"


class month(FunctionElement[str]):  # noqa: N801
    """SQL for the month of a time in microseconds since 1970, UTC: `2026-11`."""

    type = sa.Text()
    name = "month"
    inherit_cache = True


@compiles(month)
def _to_char(element: month, compiler: Any, **options: Any) -> str:
    time = compiler.process(element.clauses, **options)
    return f"to_char(to_timestamp({time} / 1000000) AT TIME ZONE 'UTC', 'YYYY-MM')"


@compiles(month, "sqlite")
def _strftime(element: month, compiler: Any, **options: Any) -> str:
    time = compiler.process(element.clauses, **options)
    return f"strftime('%Y-%m', {time} / 1000000, 'unixepoch')"


class json_rows(FunctionElement[str]):  # noqa: N801
    """SQL for all rows of a query as one JSON array of arrays; NULL or empty if there are no rows.

    It makes frequent queries of many rows faster: SQLite's driver releases the interpreter lock
    for each row. If the event loop is busy, getting the lock back takes 5 ms each time.
    """

    type = sa.Text()
    name = "json_rows"
    inherit_cache = True


@compiles(json_rows)
def _json_agg(element: json_rows, compiler: Any, **options: Any) -> str:
    columns = compiler.process(element.clauses, **options)
    return f"CAST(json_agg(json_build_array({columns})) AS TEXT)"


@compiles(json_rows, "sqlite")
def _json_group_array(element: json_rows, compiler: Any, **options: Any) -> str:
    return f"json_group_array(json_array({compiler.process(element.clauses, **options)}))"
