"""An open query's rows written as a table, CSV, JSON or Parquet."""

import csv
import json
from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

import duckdb

from scanner import files
from scanner.audit.text import aligned, csv_cell, distinct, plain


def write_text(
    con: duckdb.DuckDBPyConnection, fmt: str, out: TextIO, limit: int | None, width: int | None
) -> int:
    """Write the rows of an executed query and return how many.

    Args:
        con: Where the query was executed.
        fmt: ``table``, ``csv`` or ``json``.
        out: Where to.
        limit: At most so many rows; a table says if there were more.
        width: Terminal columns that a table may take.
    """
    names = distinct([column[0] for column in con.description or []])
    rows = islice(_rows(con), limit)
    if fmt == "table":
        listed = list(rows)
        out.write(aligned(names, listed, width) + "\n")
        if limit is not None and con.fetchone() is not None:
            out.write(f"(the first {limit} rows; there are more)\n")
        return len(listed)
    return _write_csv(names, rows, out) if fmt == "csv" else _write_json(names, rows, out)


def _write_csv(names: list[str], rows: Iterator[tuple[Any, ...]], out: TextIO) -> int:
    writer, count = csv.writer(out, lineterminator="\n"), 0
    writer.writerow([csv_cell(name) for name in names])
    for count, row in enumerate(rows, 1):  # noqa: B007
        writer.writerow([csv_cell(cell) for cell in row])
    return count


def _write_json(names: list[str], rows: Iterator[tuple[Any, ...]], out: TextIO) -> int:
    count = 0
    out.write("[")
    for count, row in enumerate(rows, 1):
        cells = dict(zip(names, map(plain, row), strict=True))
        out.write((",\n " if count > 1 else "\n ") + json.dumps(cells, ensure_ascii=False))
    out.write("\n]\n" if count else "]\n")
    return count


def write_parquet(con: duckdb.DuckDBPyConnection, sql: str, path: Path, limit: int | None) -> int:
    """Write a query's rows to a Parquet file, complete or not at all, and return how many.

    The connection may write nothing, so the rows go through another one.

    Raises:
        OutputError: If it cannot be written.
    """
    relation = con.sql(sql)
    reader = (relation if limit is None else relation.limit(limit)).to_arrow_reader(10_000)
    with files.replaced(path) as partial, closing(duckdb.connect(":memory:")) as writer:
        writer.from_arrow(reader).write_parquet(str(partial), compression="zstd")
        counted = writer.read_parquet(str(partial)).count("*").fetchall()
    return int(counted[0][0])


def _rows(con: duckdb.DuckDBPyConnection) -> Iterator[tuple[Any, ...]]:
    # Exactly as many rows as are asked for leave the cursor, so the next one can still be seen.
    while (row := con.fetchone()) is not None:
        yield row
