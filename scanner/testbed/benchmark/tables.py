"""A checkpoint's scans, samples and truth, joined: a row a caption, and a row a map."""

# pyright: reportUnknownMemberType=false

from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from scanner import files
from scanner.analysis import overlap
from scanner.analysis.captions_and_maps import captions, maps_of, metrics
from scanner.analysis.query import connect, quoted
from scanner.masks import from_heatmap, from_runs, mean_filtered, resize
from scanner.results.folder import Results
from scanner.testbed.benchmark import scans

SCORES, MAPS = "scores.parquet", "maps.parquet"

ABOUT = (
    "split", "caption_sha256", "caption", "item", "arm", "kind", "family", "role", "region", "dose",
    "copies", "seeds", "clique", "error", "floor",
)  # fmt: skip
"""Columns of a row a caption beside its scores: `shards.TRUTH` and `extraction.TABLE` say what
they are. ``copies`` to ``floor`` are null where nothing was sampled."""

MAP_ROW = pa.schema(
    [
        pa.field("caption_sha256", pa.string(), nullable=False),
        pa.field("map", pa.string(), nullable=False),
        pa.field("truth", pa.int32(), nullable=False),
        pa.field("mask", pa.int32(), nullable=False),
        pa.field("both", pa.int32(), nullable=False),
        pa.field("swept", pa.list_(pa.int32()), nullable=False),
        pa.field("swept_both", pa.list_(pa.int32()), nullable=False),
    ]
)
"""A row a map of a planted caption.

``truth`` and ``mask`` are the pixels of the repeated region and of the deployed mask, ``both``
those in both; ``mask`` is -1 where a calibration says nothing of such maps. ``swept`` and
``swept_both`` are the same of the map at each of `overlap.THRESHOLDS`, scaled over all planted
captions' maps of this kind, as published.
"""


def write(out: Path, truth: Path, extraction: Path, found: scans.Scans) -> None:
    """Write ``scores.parquet`` and ``maps.parquet``.

    Args:
        out: Where to.
        truth: A truth table, of `shards.TRUTH`.
        extraction: What was sampled, of `extraction.TABLE`.
        found: Its scans.
    """
    parts = [_scores(found.nulls, None, truth, extraction, "calibration")]
    for split, run in found.runs.items():
        parts.append(_scores(found.results, run, truth, extraction, split))
    joined = pa.concat_tables(parts, promote_options="default")
    with closing(
        connect(Results(str(found.results)), runs=[found.runs["planted"]], also=[truth])
    ) as con:
        regions = _regions(con, truth)
        pieces = [
            row
            for metric, baseline in metrics(con)
            for row in _maps(con, metric, baseline, regions)
        ]
    for name, table in ((SCORES, joined), (MAPS, pa.Table.from_pylist(pieces, MAP_ROW))):
        with files.binary(out / name) as stream:
            pq.write_table(table, stream, compression="zstd")


def _scores(
    folder: Path, run: str | None, truth: Path, extraction: Path, split: str
) -> pa.Table:  # fmt: skip
    """Return a row for each caption of a run; null takes the folder's only one."""
    runs = None if run is None else [run]
    with closing(connect(Results(str(folder)), runs=runs, also=[truth, extraction])) as con:
        names, rows = captions(con)
        own = {"caption_sha256": pa.array([row[0] for row in rows])} | {
            plain(name): pa.array([row[place] for row in rows], pa.float64())
            for place, name in enumerate(names, 2)
        }
        con.register("own_scores", pa.table(own))
        return con.sql(
            f"SELECT '{split}' AS split, t.caption_sha256, t.caption, t.item, t.arm, t.kind, "  # noqa: S608
            "t.family, t.role, t.region, t.dose, e.copies, e.seeds, e.clique, e.error, e.floor, "
            f"s.* EXCLUDE (caption_sha256) FROM read_parquet({quoted(str(truth))}) AS t "
            "JOIN own_scores AS s USING (caption_sha256) "
            f"LEFT JOIN read_parquet({quoted(str(extraction))}) AS e "
            "ON e.caption = t.caption AND e.item = t.item ORDER BY t.caption_sha256"
        ).to_arrow_table()


def plain(name: str) -> str:
    """Return a column's name with ``early`` for the checkpoint that it is of.

    Example:
        >>> plain("delta_s_step-04500"), plain("wen_first"), plain("delta_s_off")
        ('delta_s_early', 'wen_first', 'delta_s_off')
    """
    head, mark, _ = name.partition("step-")
    return f"{head}early" if mark else name


def _regions(con: Any, truth: Path) -> dict[str, Any]:
    rows = con.execute(
        f"SELECT caption_sha256, mask, height, width FROM read_parquet({quoted(str(truth))}) "  # noqa: S608
        "WHERE mask IS NOT NULL"
    ).fetchall()
    return {sha: from_runs(runs, height, width) for sha, runs, height, width in rows}


def _maps(con: Any, metric: str, baseline: str, regions: dict[str, Any]) -> list[dict[str, object]]:
    found = [row for row in maps_of(con, metric, baseline) if row[0] in regions]
    truths = [regions[row[0]] for row in found]
    if not found:
        return []
    values = [from_heatmap(heat, height, width) for _, height, width, heat, _ in found]
    both, either = overlap.counts(values, truths, mean_filtered)
    rows: list[dict[str, object]] = []
    for place, (sha, height, width, _, runs) in enumerate(found):
        truth = truths[place]
        mask = None if runs is None else resize(from_runs(runs, height, width), *truth.shape)
        swept = either[place] + both[place] - truth.sum()
        rows.append(
            {
                "caption_sha256": sha, "map": plain(f"{metric}/{baseline}"),
                "truth": int(truth.sum()), "mask": -1 if mask is None else int(mask.sum()),
                "both": 0 if mask is None else int((mask & truth).sum()),
                "swept": swept.astype(np.int32).tolist(),
                "swept_both": both[place].astype(np.int32).tolist(),
            }
        )  # fmt: skip
    return rows
