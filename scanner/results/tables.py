"""The columns of the result tables, and rows as Arrow tables."""

import math
from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import Any

import pyarrow as pa

from scanner.records import ChunkResult, MaskRow, Reject, ScoreRow
from scanner.results import schema
from scanner.schema import Column, Kind, Table

SCHEMA_VERSION = schema.VERSION
TABLES = ("scores", "masks", "rejects")
_ARROW = {
    Kind.TEXT: pa.string(), Kind.INT64: pa.int64(), Kind.INT32: pa.int32(),
    Kind.FLOAT64: pa.float64(), Kind.FLOAT32: pa.float32(), Kind.BOOL: pa.bool_(),
    Kind.BYTES: pa.binary(),
    Kind.INT32_LIST: pa.list_(pa.field("element", pa.int32(), nullable=False)),
    Kind.FLOAT32_LIST: pa.list_(pa.field("element", pa.float32(), nullable=False)),
}  # fmt: skip
_NUMBERS = tuple(c.name for c in schema.SCORES.columns if c.kind is Kind.FLOAT64)


def _arrow(table: Table, extra: Sequence[str] = ()) -> pa.Schema:
    more = [Column(name, Kind.FLOAT32, schema.EXTRA_DOC, null=True) for name in extra]
    return pa.schema(
        [
            pa.field(
                c.name, _ARROW[c.kind], nullable=c.null, metadata={"doc": c.doc, "unit": c.unit}
            )
            for c in (*table.columns, *more)
        ],
        metadata={"schema_version": str(SCHEMA_VERSION), "table": table.name},
    )


SCORES = _arrow(schema.SCORES)
SCORE_COLUMNS: tuple[str, ...] = tuple(SCORES.names)
"""Columns of ``scores`` that are always there."""
MASKS = _arrow(schema.MASKS)
REJECTS = _arrow(schema.REJECTS)
RETRIEVED = _arrow(schema.RETRIEVED)
CONFIRMED = _arrow(schema.CONFIRMED)


def scores_schema(extra: Sequence[str]) -> pa.Schema:
    """Return `SCORES` with a float32 column for each further detector.

    Raises:
        ValueError: If a detector has the name of a column.
    """
    names = [*SCORES.names, *extra]
    if len(set(names)) < len(names):
        raise ValueError(f"extra columns must be new and distinct, got {list(extra)}")
    return _arrow(schema.SCORES, extra)


def counts(result: ChunkResult, samples: object) -> dict[str, int]:
    """Return how many samples were scored, rejected and flagged.

    Raises:
        ValueError: If they do not add up to ``samples``, or rows are double or astray.
    """
    rows = {(row.caption.shard, row.caption.key, row.seed) for row in result.scores}
    if len(rows) < len(result.scores):
        raise ValueError(f"{len(result.scores)} score rows for {len(rows)} samples and seeds")
    if strays := {(m.caption.shard, m.caption.key, m.seed) for m in result.masks} - rows:
        raise ValueError(f"{len(strays)} maps without a score row, such as {min(strays)}")
    found = {
        "scored": len({(shard, key) for shard, key, _ in rows}),
        "rejected": len(result.rejects),
        "flagged": len({(r.caption.shard, r.caption.key) for r in result.scores if r.flagged}),
    }
    if samples != found["scored"] + found["rejected"]:
        raise ValueError(
            f"samples must be scored + rejected, got {samples} samples, "
            f"{found['scored']} scored and {found['rejected']} rejected"
        )
    return {"samples": found["scored"] + found["rejected"], **found}


def tables(run: str, result: ChunkResult, extra: Sequence[str]) -> dict[str, pa.Table]:
    """Return the tables to write: scores always, the others if they have rows.

    Raises:
        ValueError: If a number is not finite, or a score is missing or of no known detector.
    """
    found = {"scores": _scores(run, result.scores, extra)}
    if result.masks:
        found["masks"] = _table(_cells(run, result.masks, schema.MASKS), MASKS)
    if result.rejects:
        found["rejects"] = _table(_cells(run, result.rejects, schema.REJECTS), REJECTS)
    return found


def _scores(run: str, rows: Sequence[ScoreRow], extra: Sequence[str]) -> pa.Table:
    columns, known = _cells(run, rows, schema.SCORES), set(extra)
    for row in rows:
        if not row.extra.keys() <= known:
            unknown = sorted(set(row.extra) - known)
            raise ValueError(f"{row.caption.key} has scores of {unknown}, not among {extra}")
        if row.delta_s is None and row.stage != "screen":
            raise ValueError(f"{row.caption.key} has no delta_s at stage {row.stage}")
    columns |= {name: [row.extra.get(name) for row in rows] for name in extra}
    for name in (*_NUMBERS, *extra):
        for row, number in zip(rows, columns[name], strict=True):
            if number is not None and not math.isfinite(number):
                raise ValueError(f"{name} of {row.caption.key} must be finite, got {number}")
    return _table(columns, scores_schema(extra))


def _cells(
    run: str, rows: Sequence[ScoreRow | MaskRow | Reject], table: Table
) -> dict[str, list[Any]]:
    """Return the cells of rows by column: those of their samples, and their own."""
    found: dict[str, list[Any]] = {schema.RUN.name: [run] * len(rows)}
    for name in table.names[1:]:
        own = schema.OF_CAPTION.get(name) if table is not schema.REJECTS else None
        cell = attrgetter(name if own is None else f"caption.{own}")
        found[name] = [cell(row) for row in rows]
    return found


def _table(columns: Mapping[str, list[Any]], schema: pa.Schema) -> pa.Table:
    arrays = [pa.array(columns[field.name], field.type) for field in schema]
    return pa.Table.from_arrays(arrays, schema=schema)
