"""The samples that carry a finding's caption or picture: what a data owner would take out."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb

from scanner import files
from scanner.analysis.output import execute, write_parquet, write_text
from scanner.matching.copies import Group
from scanner.shards import reading
from scanner.shards.addresses import file_name

SAMPLES = """
WITH samples AS (
    SELECT DISTINCT shard, key, url, caption_sha256, caption, image_sha256 FROM scores
),
carrying AS (
    SELECT s.*, r.finding FROM samples AS s JOIN removal AS r
      ON r.sha = s.caption_sha256 AND (r.image IS NULL OR r.image = s.image_sha256)
)
SELECT coalesce(c.shard, h.shard) AS shard, coalesce(c.key, h.key) AS key,
       coalesce(c.url, h.url, s.url) AS url,
       coalesce(c.caption_sha256, h.caption_sha256, s.caption_sha256) AS caption_sha256,
       {caption} AS caption,
       r.severity, r.state, r.match, r.p_value, r.delta_s, r.copies, r.muted, r.finding,
       CASE WHEN h.key IS NULL THEN 'caption' WHEN c.key IS NULL THEN 'image'
            ELSE 'caption and image' END AS because,
       h.match AS image_match, h.mse AS image_mse,
       p.file, p."row"
FROM carrying AS c
FULL JOIN held AS h ON c.finding = h.finding AND c.shard = h.shard AND c.key = h.key
JOIN removal AS r ON r.finding = coalesce(c.finding, h.finding)
LEFT JOIN samples AS s ON c.key IS NULL AND s.shard = h.shard AND s.key = h.key
LEFT JOIN places AS p ON p.shard = coalesce(c.shard, h.shard) AND p.key = coalesce(c.key, h.key)
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


_PLACES = {"shard": "VARCHAR", "key": "VARCHAR", "file": "VARCHAR", "row": "BIGINT"}


def write_removal(
    con: duckdb.DuckDBPyConnection,
    rows: Sequence[Mapping[str, Any]],
    folder: Path,
    *,
    redact: bool,
    groups: Mapping[str, Group] | None = None,
) -> int:
    """Write the removal list three times and return how many samples it has.

    ``removal.csv`` and ``removal.parquet`` are exact, for programs. ``removal-spreadsheet.csv`` is
    for people: without hidden characters, and with a ``'`` before what a spreadsheet would
    compute, so its keys may differ from the shards'.

    ``file`` is the last part of the shard's address, ``row`` the sample's row in its table,
    counted from 0; null of other shards, and where the table changed or cannot be read.

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
    _fill(con, "places", _PLACES, [])
    _fill(con, "places", _PLACES, _places(con, query))
    for name, cells in (("removal.csv", "exact"), ("removal-spreadsheet.csv", "spreadsheet")):
        with files.text(folder / name) as stream:
            execute(con, query)
            write_text(con, "csv", stream, cells=cells)
    return write_parquet(con, query, folder / "removal.parquet", None)


def _places(con: duckdb.DuckDBPyConnection, query: str) -> list[dict[str, Any]]:
    """Return the file of each sample, and its row where that is a table which can be read."""
    found = dict[str, list[str]]()
    for shard, key in con.execute(f"SELECT DISTINCT shard, key FROM ({query})").fetchall():  # noqa: S608
        found.setdefault(shard, []).append(key)
    places = list[dict[str, Any]]()
    for shard, keys in found.items():
        rows, name = reading.rows_of(shard, keys), file_name(shard)
        places += [{"shard": shard, "key": key, "file": name, "row": rows.get(key)} for key in keys]
    return places


def _fill(
    con: duckdb.DuckDBPyConnection, name: str, columns: Mapping[str, str],
    rows: Sequence[Mapping[str, Any]],
) -> None:  # fmt: skip
    listed = ", ".join(f'"{column}" {kind}' for column, kind in columns.items())
    con.execute(f"CREATE OR REPLACE TEMP TABLE {name} ({listed})")
    unnested = ", ".join(f"unnest(${i}::{kind}[])" for i, kind in enumerate(columns.values(), 1))
    lists = [[row[column] for row in rows] for column in columns]
    con.execute(f"INSERT INTO {name} SELECT {unnested}", lists)
