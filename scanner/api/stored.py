"""A caption's result as it was stored by a scan, in the form in which `scanner.score` gives it."""

from io import BytesIO
from typing import Any

import duckdb
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from scanner import masks
from scanner.analysis.evidence import named
from scanner.api.score import Map, Score, map_name, map_of
from scanner.errors import ConfigError
from scanner.results.tables import SCORE_COLUMNS

_MINE = "WHERE identity_of(caption_sha256, image_sha256) = $1 "


def stored_score(con: duckdb.DuckDBPyConnection, wanted: str) -> Score:
    """Return what is stored of a caption.

    Args:
        con: Of `scanner.analysis.query.connect`, with one run.
        wanted: A sample's key, or the start of the hash of a caption or finding.

    Raises:
        ConfigError: If nothing or more than one result answers to it.
    """
    identity = _identity(con, named(con, wanted))
    rows = con.sql(
        "SELECT * FROM scores " + _MINE  # noqa: S608 - a constant
        + "QUALIFY row_number() OVER (PARTITION BY seed ORDER BY shard, key) = 1 ORDER BY seed",
        params=[identity],
    ).to_arrow_table().to_pylist()  # fmt: skip
    extra = [name for name in rows[0] if name not in SCORE_COLUMNS]
    columns = {name: [row[name] for row in rows] for name in ("delta_s", *extra)}
    stored = _map_rows(con, identity)
    pictures = _pictures(stored)
    return Score(
        caption=rows[0]["caption"],
        seeds=tuple(row["seed"] for row in rows),
        scores={
            name: np.array([np.nan if cell is None else cell for cell in cells], float)
            for name, cells in columns.items()
            if any(cell is not None for cell in cells)
        },
        p_value=rows[0]["p_value"], flagged=rows[0]["flagged"], maps=_maps(stored),
        images=np.stack(pictures) if len(pictures) == len(rows) else None,
        pinned=tuple(row["pinned"] for row in stored if row["pinned"] is not None),
    )  # fmt: skip


def _identity(con: duckdb.DuckDBPyConnection, sha: str) -> str:
    """Return the identity of the one result of a hash.

    Raises:
        ConfigError: If a caption was scored at several images.
    """
    found = con.execute(
        "SELECT DISTINCT identity_of(caption_sha256, image_sha256) AS own FROM scores "
        "WHERE own = $1 OR caption_sha256 = $1 ORDER BY own",
        [sha],
    ).fetchall()
    if len(found) > 1:
        some = ", ".join(own[:12] for (own,) in found[:5])
        raise ConfigError(f"this caption was scored at {len(found)} images: name one, {some}")
    return found[0][0]


def _map_rows(con: duckdb.DuckDBPyConnection, identity: str) -> list[dict[str, Any]]:
    """Return the map rows, Δh first, each metric's in the order of the seeds."""
    return con.sql(
        "SELECT * FROM masks " + _MINE  # noqa: S608 - a constant
        + "QUALIFY row_number() OVER (PARTITION BY metric, baseline, seed ORDER BY shard, key) = 1 "
        "ORDER BY metric = 'delta_h' DESC, metric, baseline <> 'null', baseline, seed",
        params=[identity],
    ).to_arrow_table().to_pylist()  # fmt: skip


def _maps(rows: list[dict[str, Any]]) -> dict[str, Map]:
    by_name = dict[str, list[dict[str, Any]]]()
    for row in rows:
        by_name.setdefault(map_name(row["metric"], row["baseline"]), []).append(row)
    return {name: _map(own) for name, own in by_name.items()}


def _pictures(rows: list[dict[str, Any]]) -> list[NDArray[np.uint8]]:
    """Return the generated pictures in the order of the seeds."""
    drawn = sorted((row["seed"], row["image"]) for row in rows if row["image"] is not None)
    return [np.asarray(Image.open(BytesIO(image)).convert("RGB")) for _, image in drawn]


def _map(rows: list[dict[str, Any]]) -> Map:
    sizes = [(row["height"], row["width"]) for row in rows]
    pairs = list(zip(rows, sizes, strict=True))
    return map_of(
        [masks.from_heatmap(row["heatmap"], *size).astype(np.float32) for row, size in pairs],
        rows[0]["sigma"],
        [row["threshold"] for row in rows],
        [None if (m := row["mask"]) is None else masks.from_runs(m, *size) for row, size in pairs],
    )
