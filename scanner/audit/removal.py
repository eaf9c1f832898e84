"""The list of samples that carry a finding's caption: what a data owner would take out."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb

from scanner.audit.output import write_parquet
from scanner.audit.text import FORMULA_STARTS, plain, printable

COLUMNS = ("shard", "key", "url", "caption_sha256", "caption", "severity", "state", "match",
           "p_value", "delta_s", "copies", "muted")  # fmt: skip
WIDE_STARTS = ("＝", "＋", "－", "＠")
"""Full-width forms that some spreadsheets also take for the start of a formula."""

SAMPLES = """
SELECT DISTINCT s.shard, s.key, s.url, s.caption_sha256, {caption} AS caption,
       r.severity, r.state, r.match, r.p_value, r.delta_s, r.copies, r.muted
FROM scores AS s JOIN removal AS r ON r.sha = s.caption_sha256
ORDER BY r.place, s.shard, s.key
"""


def write_removal(
    con: duckdb.DuckDBPyConnection,
    rows: Sequence[Mapping[str, Any]],
    folder: Path,
    *,
    redact: bool,
) -> int:
    """Write ``removal.csv`` and ``removal.parquet`` and return how many samples they list.

    The CSV is for people: one line per cell, without control and bidirectional characters, and
    a text that a spreadsheet would compute gets a leading ``'``. Parquet holds what is.

    Args:
        con: Views of the shards in effect.
        rows: Findings, the worst first: ``sha``, ``severity``, ``state``, ``match``,
            ``p_value``, ``delta_s``, ``copies`` and ``muted``.
        folder: Where to.
        redact: Whether captions are withheld.
    """
    con.execute(
        "CREATE OR REPLACE TEMP TABLE removal (sha VARCHAR, severity VARCHAR, state VARCHAR, "
        "match VARCHAR, p_value DOUBLE, delta_s DOUBLE, copies BIGINT, muted VARCHAR, "
        "place BIGINT)"
    )
    names = ("sha", "severity", "state", "match", "p_value", "delta_s", "copies", "muted")
    kinds = ("VARCHAR",) * 4 + ("DOUBLE", "DOUBLE", "BIGINT", "VARCHAR", "BIGINT")
    lists = [[row[name] for row in rows] for name in names] + [list(range(len(rows)))]
    unnested = ", ".join(f"unnest(${i}::{kind}[])" for i, kind in enumerate(kinds, 1))
    con.execute(f"INSERT INTO removal SELECT {unnested}", lists)
    query = SAMPLES.format(caption="NULL::VARCHAR" if redact else "s.caption")
    with (folder / "removal.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(COLUMNS)
        cursor = con.execute(query)
        while (row := cursor.fetchone()) is not None:
            writer.writerow([spreadsheet_cell(cell) for cell in row])
    return write_parquet(con, query, folder / "removal.parquet", None)


def spreadsheet_cell(value: Any) -> Any:
    r"""Return a cell that no spreadsheet computes.

    Example:
        >>> spreadsheet_cell("\t=1+1"), spreadsheet_cell(-1.5)
        ("'=1+1", -1.5)
    """
    if not isinstance(value, str):
        return plain(value)
    text = printable(value).strip()
    return "'" + text if text.startswith((*FORMULA_STARTS, *WIDE_STARTS)) else text
