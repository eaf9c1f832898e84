"""An open query's rows written as a table, CSV, JSON or Parquet."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from threading import Event
from typing import Any, TextIO

import duckdb
import pyarrow.parquet as pq
from duckdb.sqltypes import DuckDBPyType

from scanner import files
from scanner.text import aligned, distinct, spreadsheet_cell, to_csv, to_json, visible

_IN_PYTHON = frozenset({
    "boolean", "tinyint", "smallint", "integer", "bigint", "hugeint", "utinyint", "usmallint",
    "uinteger", "ubigint", "uhugeint", "float", "double", "decimal", "varchar", "blob", "enum",
    "uuid", "bit", "sqlnull", "null", '"null"',
})  # fmt: skip
"""DuckDB types whose every value Python holds."""
_IN_PARQUET = (_IN_PYTHON - {"bit", "hugeint", "uhugeint", "uuid"}) | {
    "date", "time", "timestamp", "timestamp_s", "timestamp_ms", "timestamp_ns",
    "timestamp with time zone",
}  # fmt: skip
"""DuckDB types whose every value a Parquet file holds."""


def write_text(
    con: duckdb.DuckDBPyConnection,
    fmt: str,
    out: TextIO,
    limit: int | None = None,
    width: int | None = None,
    cells: str = "exact",
    stopped: Event | None = None,
) -> int:
    """Write the rows of an executed query and return how many.

    Args:
        con: Where `execute` executed the query.
        fmt: ``table``, ``csv`` or ``json``.
        out: Where to.
        limit: At most so many rows; a table says if there were more.
        width: Terminal columns that a table may take.
        cells: What texts become in CSV, one of `CELLS`.
        stopped: Once it is set, no further row is fetched.
    """
    names = distinct([column[0] for column in con.description or []])
    rows = islice(_rows(con, stopped or Event()), limit)
    if fmt == "table":
        listed = list(rows)
        out.write(aligned(names, listed, width) + "\n")
        if limit is not None and con.fetchone() is not None:
            out.write(f"(the first {limit} rows; there are more)\n")
        return len(listed)
    return write_csv(names, rows, out, cells) if fmt == "csv" else write_json(names, rows, out)


def write_csv(
    names: Sequence[str], rows: Iterable[Sequence[Any]], out: TextIO, cells: str = "exact"
) -> int:
    """Write rows as CSV and return how many."""
    change, count = CELLS[cells], 0
    out.write(",".join(to_csv(change(name)) for name in names) + "\n")
    for count, row in enumerate(rows, 1):  # noqa: B007
        line = ",".join(to_csv(change(cell)) for cell in row)
        out.write((line or '""') + "\n")  # readers pass over an empty line
    return count


def write_json(names: Sequence[str], rows: Iterable[Sequence[Any]], out: TextIO) -> int:
    """Write rows as a JSON array of objects and return how many."""
    count = 0
    out.write("[")
    for count, row in enumerate(rows, 1):
        cells = to_json(dict(zip(names, row, strict=True)))
        out.write((",\n " if count > 1 else "\n ") + cells)
    out.write("\n]\n" if count else "]\n")
    return count


def _shown(cell: Any) -> Any:
    return visible(cell) if isinstance(cell, str) else cell


CELLS: dict[str, Callable[[Any], Any]] = {
    "exact": lambda cell: cell,
    "visible": _shown,
    "spreadsheet": spreadsheet_cell,
}
"""``exact`` as they are; ``visible`` for a terminal, with hidden characters as escapes;
``spreadsheet`` so that none is computed."""


def execute(con: duckdb.DuckDBPyConnection, sql: str) -> None:
    """Execute a SELECT so that its rows reach Python unchanged.

    Python has no dates beyond the year 9999 or at infinity, no nanoseconds and no intervals in
    months, and DuckDB cannot hand over a time with a zone without a further package. So what holds
    a date, a time or an interval is cast to DuckDB's own text.
    """
    con.execute(_cast(con, sql, _IN_PYTHON))


def _cast(con: duckdb.DuckDBPyConnection, sql: str, held: frozenset[str]) -> str:
    """Return a SELECT with every column as text whose type is not among those that are held."""
    relation = con.sql(sql)
    columns, kinds = distinct(relation.columns), [_held(kind, held) for kind in relation.types]
    if not any(kinds) and columns == relation.columns:
        return sql
    canonical = con.execute("SELECT json_deserialize_sql(json_serialize_sql($1))", [sql]).fetchall()
    names = [f"c{number}" for number in range(len(kinds))]
    casts = ", ".join(
        f"{f'CAST({name} AS {kind})' if kind else name} AS {_identifier(column)}"
        for name, kind, column in zip(names, kinds, columns, strict=True)
    )
    return f"SELECT {casts} FROM ({canonical[0][0]}) AS q({', '.join(names)})"  # noqa: S608


def _held(kind: DuckDBPyType, held: frozenset[str]) -> str | None:
    """Return the type that a column is cast to; null where it may stay as it is."""
    if kind.id in held:
        return None
    if kind.id not in ("list", "array", "struct", "tuple", "map"):
        return "VARCHAR"
    children = [(n, child) for n, child in kind.children if isinstance(child, DuckDBPyType)]
    parts = [(name, child, _held(child, held)) for name, child in children]
    if not any(cast for _, _, cast in parts):
        return None
    inner = [(_identifier(name), cast or str(child)) for name, child, cast in parts]
    if kind.id == "struct":
        return f"STRUCT({', '.join(f'{name} {cast}' for name, cast in inner)})"
    if kind.id == "map":
        return f"MAP({inner[0][1]}, {inner[1][1]})"
    return "VARCHAR" if kind.id == "tuple" else f"{inner[0][1]}[]"


def _identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def write_parquet(
    con: duckdb.DuckDBPyConnection, sql: str, path: Path, limit: int | None,
    stopped: Event | None = None,
) -> int:  # fmt: skip
    """Write a query's rows to a Parquet file, complete or not at all, and return how many.

    The connection may write nothing, so pyarrow writes what it yields. (A second connection of
    DuckDB can wait for ever for a reader that was interrupted.) What Parquet cannot hold
    (intervals, times with a zone, bits, unions, integers of 128 bits) is text.

    Args:
        con: Where the query runs.
        sql: The query.
        path: The file.
        limit: At most so many rows; null for all.
        stopped: Ends the writing between two batches once it is set.

    Raises:
        OutputError: If it cannot be written.
        duckdb.InterruptException: If the query was interrupted.
    """
    relation = con.sql(_cast(con, sql, _IN_PARQUET))
    reader = (relation if limit is None else relation.limit(limit)).to_arrow_reader(10_000)
    rows = 0
    with (
        files.binary(path) as out,
        pq.ParquetWriter(out, reader.schema, compression="zstd") as writer,
    ):
        for batch in reader:
            if stopped is not None and stopped.is_set():
                raise duckdb.InterruptException("stopped between two batches")
            writer.write_batch(batch)
            rows += batch.num_rows
    return rows


def _rows(con: duckdb.DuckDBPyConnection, stopped: Event) -> Iterator[tuple[Any, ...]]:
    # Exactly as many rows as are asked for leave the cursor, so the next one can still be seen.
    while (row := con.fetchone()) is not None:
        if stopped.is_set():
            raise duckdb.InterruptException("stopped between two rows")
        yield row
