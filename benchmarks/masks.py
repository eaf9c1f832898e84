"""What a mask without ground truth loses: the rule that `calibrate` fits, and rules beside it.

Reads what `memscan demo` left: maps of null captions and of planted ones with their true regions.
Half of the planted families is for choosing (A), the other half for reporting (B). Nothing is
scanned.

    memscan demo --out DIR && python benchmarks/masks.py DIR
"""

import argparse
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from scanner.analysis import overlap
from scanner.analysis.captions_and_maps import maps_of, metrics, regions
from scanner.analysis.query import connect
from scanner.analysis.truth import Truth, truths
from scanner.masks import from_heatmap, mean_filtered, resize
from scanner.results.folder import Results

Floats = NDArray[np.float64]
Rule = Callable[[Floats], NDArray[np.bool_]]
Rows = list[tuple[Truth | None, Floats]]

PIXEL_FPR = 0.01
QUANTILES, SHARES = (0.75, 0.9, 0.95, 1.0), (0.2, 0.25, 0.3, 0.35, 0.4)


def maps(folder: Path, truth: Path | None, metric: str, baseline: str) -> Rows:
    """Return truth and map of every localized (caption, seed) of the newest complete run."""
    results = Results(folder)
    with closing(
        connect(results, runs=[results.default_run()], also=[truth] if truth else [])
    ) as con:
        known = truths(con, truth) if truth else {}
        return [
            (known.get(sha), from_heatmap(heat, height, width))
            for sha, height, width, heat, _ in maps_of(con, metric, baseline)
        ]


def floor(rows: Rows, prepare: Callable[[Floats], Floats]) -> float:
    """Return what the share `PIXEL_FPR` of all pixels of null maps exceeds."""
    pixels = np.concatenate([prepare(values).ravel() for _, values in rows])
    return float(np.quantile(pixels, 1 - PIXEL_FPR, method="inverted_cdf"))


def share_rule(low: float, quantile: float, share: float) -> Rule:
    """Return the rule of `scanner.masks.region` with other constants."""

    def inside(values: Floats) -> NDArray[np.bool_]:
        smooth = mean_filtered(values)
        return smooth > max(low, share * float(np.quantile(smooth, quantile)))

    return inside


def iou(rule: Rule, rows: Rows) -> float:
    """Return the pooled IoU of a rule's masks, at the size of the truth."""
    values = [v for _, v in rows]
    true = regions([t for t, _ in rows if t], values)
    masks = [resize(rule(v), *t.shape) for v, t in zip(values, true, strict=True)]
    return overlap.agreement(masks, true).iou


def halves(rows: Rows, kind: str) -> dict[str, Rows]:
    """Split the rows of a kind by family: A for choosing, B for reporting."""
    own = [(t, v) for t, v in rows if t and t.kind == kind]
    families = sorted({t.family for t, _ in own})
    np.random.default_rng(0).shuffle(families)
    chosen = set(families[: len(families) // 2])
    return {
        f"{kind} A": [(t, v) for t, v in own if t.family in chosen],
        f"{kind} B": [(t, v) for t, v in own if t.family not in chosen],
    }


def main() -> None:
    """Print a table for each map."""
    parser = argparse.ArgumentParser()
    parser.add_argument("demo", type=Path)
    parser.add_argument("--grid", action="store_true", help="Also every constant that was tried.")
    asked = parser.parse_args()
    truth, demo = (
        asked.demo / "corpus" / "evaluation-truth.parquet",
        Results(asked.demo / "results"),
    )
    with closing(connect(demo, runs=[demo.default_run()])) as con:
        names = metrics(con)
    for metric, baseline in names:
        null = maps(asked.demo / "calibration.results", None, metric, baseline)
        rows = maps(asked.demo / "results", truth, metric, baseline)
        pools = halves(rows, "template") | halves(rows, "verbatim")
        plain, smooth = floor(null, lambda v: v), floor(null, mean_filtered)
        rules: dict[str, Rule] = {
            "floor alone, unsmoothed": lambda v, low=plain: v > low,
            "floor alone, smoothed": share_rule(smooth, 0.9, 0.0),
            "the rule: 0.3 of the 0.9-quantile": share_rule(smooth, 0.9, 0.3),
        }
        if asked.grid:
            rules |= {
                f"{share} of the {quantile}-quantile": share_rule(smooth, quantile, share)
                for quantile in QUANTILES for share in SHARES
            }  # fmt: skip
        heads = "".join(f"{name:>12}" for name in [*pools, "null area"])
        print(f"\n{metric} against {baseline}\n{'':36}{heads}")
        for name, rule in rules.items():
            cells = "".join(f"{iou(rule, pool):12.3f}" for pool in pools.values())
            print(f"{name:36}{cells}{np.mean([rule(v).mean() for _, v in null]):12.4f}")
        best = [
            overlap.sweep(v, regions(t, v), lambda values: values).best().iou
            for t, v in ([[t for t, _ in p], [v for _, v in p]] for p in pools.values())
        ]
        print(f"{'best threshold in hindsight':36}" + "".join(f"{value:12.3f}" for value in best))


if __name__ == "__main__":
    main()
