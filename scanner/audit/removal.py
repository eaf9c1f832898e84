"""The samples that carry a finding's caption or picture: what a data owner would take out."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb

from scanner import files
from scanner.audit.copies import Group
from scanner.audit.output import write_parquet
from scanner.audit.text import FORMULA_STARTS, plain, printable

COLUMNS = ("shard", "key", "url", "caption_sha256", "caption", "severity", "state", "match",
           "p_value", "delta_s", "copies", "muted", "finding", "because", "image_match",
           "image_mse")  # fmt: skip
WIDE_STARTS = ("＝", "＋", "－", "＠")
"""Full-width forms that some spreadsheets also take for the start of a formula."""

SAMPLES = """
WITH samples AS (
    SELECT DISTINCT shard, key, url, caption_sha256, caption, image_sha256 FROM scores
),
carrying AS (
    SELECT s.*, r.finding FROM samples AS s JOIN removal AS r
      ON r.sha = s.caption_sha256 AND (r.image IS NULL OR r.image = s.image_sha256)
)
SELECT coalesce(c.shard, h.shard) AS shard, coalesce(c.key, h.key) AS key,
       coalesce(c.url, h.url) AS url,
       coalesce(c.caption_sha256, h.caption_sha256) AS caption_sha256,
       {caption} AS caption,
       r.severity, r.state, r.match, r.p_value, r.delta_s, r.copies, r.muted, r.finding,
       CASE WHEN h.key IS NULL THEN 'caption' WHEN c.key IS NULL THEN 'image'
            ELSE 'caption and image' END AS because,
       h.match AS image_match, h.mse AS image_mse
FROM carrying AS c
FULL JOIN held AS h ON c.finding = h.finding AND c.shard = h.shard AND c.key = h.key
JOIN removal AS r ON r.finding = coalesce(c.finding, h.finding)
LEFT JOIN samples AS s ON c.key IS NULL AND s.shard = h.shard AND s.key = h.key
ORDER BY r.place, c.key IS NULL, 1, 2
"""
_REMOVAL = {
    "finding": "VARCHAR", "sha": "VARCHAR", "image": "VARCHAR", "severity": "VARCHAR",
    "state": "VARCHAR", "match": "VARCHAR",
    "p_value": "DOUBLE", "delta_s": "DOUBLE", "copies": "BIGINT", "muted": "VARCHAR",
    "place": "BIGINT",
}  # fmt: skip
_HELD = {
    "finding": "VARCHAR", "shard": "VARCHAR", "key": "VARCHAR", "url": "VARCHAR",
    "caption_sha256": "VARCHAR", "match": "VARCHAR", "mse": "DOUBLE",
}  # fmt: skip


def write_removal(
    con: duckdb.DuckDBPyConnection,
    rows: Sequence[Mapping[str, Any]],
    folder: Path,
    *,
    redact: bool,
    groups: Mapping[str, Group] | None = None,
) -> int:
    """Write ``removal.csv`` and ``removal.parquet`` and return how many samples they list.

    The CSV is for people: one line per cell, without control and bidirectional characters, and
    a text that a spreadsheet would compute gets a leading ``'``. Parquet holds what is.

    Args:
        con: Views of the shards in effect.
        rows: Findings, the worst first: ``finding`` (its identity), ``sha`` and ``image`` (the
            hashes of its caption and of the image that was scored, or null), ``severity``,
            ``state``, ``match``, ``p_value``, ``delta_s``, ``copies`` and ``muted``.
        folder: Where to.
        redact: Whether captions are withheld.
        groups: The images that copy a finding, by its identity; of findings in ``rows``.
    """
    _fill(con, "removal", _REMOVAL, [{**row, "place": n} for n, row in enumerate(rows)])
    copies = ((row["finding"], copy) for row in rows
              for copy in (groups or {}).get(row["finding"], Group()).copies)  # fmt: skip
    held = [{name: own if name == "finding" else getattr(copy, name) for name in _HELD}
            for own, copy in copies]  # fmt: skip
    _fill(con, "held", _HELD, held)
    caption = "NULL::VARCHAR" if redact else "coalesce(c.caption, s.caption)"
    query = SAMPLES.format(caption=caption)
    with files.text(folder / "removal.csv") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(COLUMNS)
        cursor = con.execute(query)
        while (row := cursor.fetchone()) is not None:
            writer.writerow([spreadsheet_cell(cell) for cell in row])
    return write_parquet(con, query, folder / "removal.parquet", None)


def _fill(
    con: duckdb.DuckDBPyConnection, name: str, columns: Mapping[str, str],
    rows: Sequence[Mapping[str, Any]],
) -> None:  # fmt: skip
    listed = ", ".join(f"{column} {kind}" for column, kind in columns.items())
    con.execute(f"CREATE OR REPLACE TEMP TABLE {name} ({listed})")
    unnested = ", ".join(f"unnest(${i}::{kind}[])" for i, kind in enumerate(columns.values(), 1))
    lists = [[row[column] for row in rows] for column in columns]
    con.execute(f"INSERT INTO {name} SELECT {unnested}", lists)


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
