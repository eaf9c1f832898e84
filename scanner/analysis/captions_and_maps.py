"""Scores and maps of captions, read from results for measures and figures."""

from collections.abc import Sequence
from typing import Any

import duckdb
import numpy as np
from numpy.typing import NDArray

from scanner.analysis.truth import Truth
from scanner.results.schema import VIEWS


def captions(
    con: duckdb.DuckDBPyConnection, *, first_seed: bool = False
) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Return score columns, and per caption: hash, flag, and each score's mean over seeds.

    Of captions with several pictures there is the mean difference between these beside them.

    Args:
        con: The results.
        first_seed: Whether the last column is delta_s under the first of several seeds alone.
    """
    fixed = set(VIEWS["scores"].names) - {"delta_s", "screen"}
    names = [
        name
        for name, kind, *_ in con.execute("DESCRIBE scores").fetchall()
        if name not in fixed and kind in ("FLOAT", "DOUBLE")
    ]
    names.sort(key=lambda name: name != "delta_s")
    identifiers = ['"' + name.replace('"', '""') + '"' for name in names]
    means = [f"avg(CAST({i} AS DOUBLE))" for i in identifiers]
    seeds = [
        seed for (seed,) in con.execute("SELECT DISTINCT seed FROM scores ORDER BY 1").fetchall()
    ]
    joined = "scores"
    if con.execute("SELECT count(tightness) FROM masks").fetchall()[0][0]:
        names.append("tightness")
        means.append("any_value(tightness)")
        joined = (
            "scores LEFT JOIN (SELECT caption_sha256, avg(tightness) AS tightness FROM masks "
            "GROUP BY 1) USING (caption_sha256)"
        )
    if first_seed and len(seeds) > 1:
        names.append(f"delta_s, seed {seeds[0]} alone")
        means.append(f"avg(delta_s) FILTER (seed = {seeds[0]})")
    rows = con.execute(
        f"SELECT caption_sha256, bool_or(flagged), {', '.join(means)} FROM {joined} "  # noqa: S608
        "GROUP BY caption_sha256 ORDER BY caption_sha256"
    ).fetchall()
    return names, rows


def metrics(con: duckdb.DuckDBPyConnection) -> list[tuple[str, str]]:
    """Return the maps that there are, by metric and baseline."""
    return con.execute("SELECT DISTINCT metric, baseline FROM masks ORDER BY ALL").fetchall()


def maps_of(con: duckdb.DuckDBPyConnection, metric: str, baseline: str) -> list[tuple[Any, ...]]:
    """Return hash, height, width, heatmap and mask of each caption's maps, one per seed."""
    return con.execute(
        "SELECT caption_sha256, height, width, heatmap, mask FROM masks "
        "WHERE metric = $1 AND baseline = $2 QUALIFY row_number() OVER "
        "(PARTITION BY caption_sha256, seed ORDER BY shard, key) = 1 ORDER BY 1, seed",
        [metric, baseline],
    ).fetchall()


def regions(truth: Sequence[Truth], maps: Sequence[NDArray[np.float64]]) -> list[NDArray[np.bool_]]:
    """Return the true region of each map; empty where nothing is memorized."""
    return [
        np.zeros(values.shape, bool) if known.mask is None else known.mask
        for known, values in zip(truth, maps, strict=True)
    ]
