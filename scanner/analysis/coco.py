"""Masks as COCO annotations, which labelling tools and pycocotools read."""

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import duckdb
import numpy as np

from scanner import files
from scanner.analysis.query import connect
from scanner.errors import ConfigError
from scanner.masks import from_runs
from scanner.results.folder import Results
from scanner.text import plain

CATEGORIES = ("verbatim", "template", "none", "not compared", "plain")
"""The match verdicts, which are the categories; the last came later, so that numbers stay."""

MASKS = """
SELECT m.shard, m.key, m.seed, m.height, m.width, m.mask, m.match, c.caption_sha256, c.caption,
       c.delta_s, c.p_value
FROM masks AS m JOIN captions AS c USING (run, caption_sha256)
WHERE m.metric = $1 AND m.baseline = $2 AND m.mask IS NOT NULL AND (c.flagged OR $3)
ORDER BY m.shard, m.key, m.seed
"""


def export(
    results: Results,
    run: str,
    path: Path,
    *,
    metric: str = "delta_h",
    baseline: str = "null",
    whole: bool = False,
    shards: frozenset[str] | None = None,
) -> int:
    """Write a run's masks as a COCO file and return how many annotations it has.

    An image is a sample, at the size of its mask; an annotation is its mask under one seed, run
    lengths and all. The category is the match verdict; the score is the caption's mean delta_s.

    Args:
        results: The results folder.
        run: The run.
        path: The JSON to write.
        metric: Which map's masks.
        baseline: Which baseline's.
        whole: Masks of captions that are not flagged too.
        shards: Identities of the shards that count; all by default.

    Raises:
        ConfigError: If there is no such run or no such mask, saying which there are.
        ResultsError: If the results cannot be read.
    """
    images: dict[tuple[str, str], dict[str, Any]] = {}
    annotations: list[dict[str, Any]] = []
    with closing(connect(results, runs=[run], shards=shards)) as con:
        cursor = con.execute(MASKS, [metric, baseline, whole])
        for row in iter(cursor.fetchone, None):
            shard, key, seed, height, width, runs, match, sha, caption, delta_s, p_value = row
            image = images.setdefault(
                (shard, key),
                {"id": len(images) + 1, "file_name": f"{shard}/{key}", "height": height,
                 "width": width, "caption": caption, "caption_sha256": sha},
            )  # fmt: skip
            category = match if match in CATEGORIES else "not compared"
            annotations.append({
                "id": len(annotations) + 1, "image_id": image["id"],
                "category_id": 1 + CATEGORIES.index(category),
                "segmentation": {"size": [height, width], "counts": runs}, "iscrowd": 1,
                "area": sum(runs[1::2]), "bbox": _box(runs, height, width),
                "score": plain(delta_s), "p_value": plain(p_value), "seed": seed,
            })  # fmt: skip
        if not annotations:
            raise ConfigError(
                f"run {run} has no mask of {metric} against {baseline} to export"
                f"{'' if whole else ' of a flagged caption'}; it has masks of: "
                f"{', '.join(_masks_there(con)) or 'none, for want of a pixel threshold'}"
            )
    about = f"memscan run {run}, {metric} against {baseline}"
    content = {
        "info": {"description": about}, "categories": _categories(),
        "images": list(images.values()), "annotations": annotations,
    }  # fmt: skip
    files.write(path, json.dumps(content, allow_nan=False))
    return len(annotations)


def _categories() -> list[dict[str, Any]]:
    return [{"id": i, "name": name} for i, name in enumerate(CATEGORIES, 1)]


def _masks_there(con: duckdb.DuckDBPyConnection) -> list[str]:
    """Return of which metrics and baselines there are masks."""
    found = con.execute(
        "SELECT DISTINCT metric || ' against ' || baseline FROM masks "
        "WHERE mask IS NOT NULL ORDER BY 1"
    ).fetchall()
    return [name for (name,) in found]


def _box(runs: list[int], height: int, width: int) -> list[int]:
    """Return left, top, width and height of what is inside a mask; zeros if nothing is."""
    mask = from_runs(runs, height, width)
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return [0, 0, 0, 0]
    left, top = int(columns[0]), int(rows[0])
    return [left, top, int(columns[-1]) - left + 1, int(rows[-1]) - top + 1]
