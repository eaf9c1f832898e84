"""Pictures of a row, each made anew here: no byte of a shard reaches a browser as it was."""

import struct
from typing import Any

import duckdb

from scanner.analysis.evidence import colour_scale
from scanner.report.canvas import overlay
from scanner.report.thumbnails import reencoded
from scanner.serve.detail import row_of, values
from scanner.serve.listing import Listing
from scanner.shards import reading

SIDE, SMALL, QUALITY = 768, 224, 80
HEADER = struct.Struct("<IIddI")
"""Rows, columns, deployed threshold (NaN without one), top of the colours, and 1 if smoothed."""


def training(found: Listing, id: str) -> bytes:
    """Return the training image of a row as WebP, as it was cut if it was scored; empty if none."""
    with found.cursor() as con:
        row = row_of(con, id)
        if row is None:
            return b""
        shape = None
        if row["image_sha256"] is not None:
            shape = con.execute("SELECT height, width FROM masks LIMIT 1").fetchone()
    content = reading.image(row["shard"], row["key"])
    return reencoded(content, SIDE, shape, quality=QUALITY) if content else b""


def generated(found: Listing, id: str, seed: int) -> bytes:
    """Return the generated picture of a row under a seed as WebP; empty if none is stored."""
    with found.cursor() as con:
        row = row_of(con, id)
        rows = [] if row is None else con.execute(
            "SELECT image FROM masks WHERE caption_sha256 = $1 AND image_sha256 IS NOT DISTINCT "
            "FROM $2 AND seed = $3 AND image IS NOT NULL LIMIT 1",
            [row["caption_sha256"], row["image_sha256"], seed],
        ).fetchall()  # fmt: skip
    return reencoded(rows[0][0], SIDE, quality=QUALITY) if rows else b""


def nearest(found: Listing, id: str, seed: int, rank: int) -> bytes:
    """Return an image that `retrieve` found near to a row's picture; empty if there is none."""
    with found.cursor() as con:
        rows = con.execute(
            "SELECT shard, key FROM retrieved WHERE caption_sha256 = $1 AND seed = $2 "
            "AND rank = $3 LIMIT 1",
            [id, seed, rank],
        ).fetchall()
    content = reading.image(*rows[0]) if rows else None
    return reencoded(content, SMALL) if content else b""


def map_picture(
    found: Listing, scale: dict[str, float], id: str, seed: int, metric: str, baseline: str
) -> bytes:
    """Return a map as a PNG, see-through where nothing is; empty if there is none."""
    shown = _map(found, id, seed, metric, baseline)
    return overlay(shown["raw"].astype(float), scale[metric]) if shown else b""


def map_values(
    found: Listing, scale: dict[str, float], id: str, seed: int, metric: str, baseline: str
) -> bytes:
    """Return a map for the page's script: `HEADER`, then the values that a threshold is held to.

    They are little-endian float32, row by row, in score units. Empty if there is no such map.
    """
    shown = _map(found, id, seed, metric, baseline)
    if not shown:
        return b""
    threshold = float("nan") if shown["threshold"] is None else shown["threshold"]
    head = (shown["height"], shown["width"], threshold, scale[metric], int(shown["smooth"]))
    return HEADER.pack(*head) + shown["held"].astype("<f4").tobytes()


def scale_of(con: duckdb.DuckDBPyConnection) -> dict[str, float]:
    """Return the value of the brightest colour by metric, the same for every picture of a run."""
    return colour_scale(con)


def _map(found: Listing, id: str, seed: int, metric: str, baseline: str) -> dict[str, Any] | None:
    with found.cursor() as con:
        row = row_of(con, id)
        return None if row is None else values(con, row, seed, metric, baseline)


def small(found: Listing, id: str) -> bytes:
    """Return a generated picture of a row, small, under whichever seed has one; empty if none."""
    with found.cursor() as con:
        row = row_of(con, id)
        rows = [] if row is None else con.execute(
            "SELECT image FROM masks WHERE caption_sha256 = $1 AND image IS NOT NULL LIMIT 1",
            [row["caption_sha256"]],
        ).fetchall()  # fmt: skip
    return reencoded(rows[0][0], 96) if rows else b""
