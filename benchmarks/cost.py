"""What a clean caption costs, and what that buys: sampling, fewer steps, a screen, the image.

Detection and localization on planted corpora, in one process, every number from a scan that ran
here. Negatives are captions that were never trained on, and the half of the repeated hard ones that
calibrates nothing; of templates and negatives the image is one that was never drawn in training.
Each score ranks captions under one seed. Intervals are of 95%, over caption families::

    python benchmarks/cost.py --out cost                        # the shipped testbed
    python benchmarks/cost.py --out cost --testbed testbed2 2   # and another
    python benchmarks/cost.py --out cost --negatives 80 --steps 20,5 --timesteps 21,61,401

It prints a Markdown table and writes it with all numbers to ``cost.json``. The rows of the cascade
are computed from the same scans as those without it: a screen changes no other number
(``tests/scan/test_screen.py``). Its threshold is fitted on one half of the planted captions and
judged on the other, both ways.
"""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from planted import (
    DRAWS,
    Cell,
    Floats,
    Number,
    Sample,
    Scanned,
    Table,
    Testbed,
    options,
    own,
    ranked,
    scanned,
    testbeds,
    together,
    weights,
)

from scanner import masks, models
from scanner.analysis import overlap
from scanner.analysis.detection import RATES, tpr_name
from scanner.models.base import Denoiser
from scanner.spec import ScanSpec
from scanner.testbed import make

GUIDANCE, PROBES = 2.5, 4
RECALL = 0.95


def ious(denoiser: Denoiser, spec: ScanSpec, of: Sequence[Sample]) -> dict[str, Number]:
    """Return the best IoU over thresholds of every map of the templates."""
    templates = [sample for sample in of if sample.item.kind == "template"]
    result = scanned(denoiser, replace(spec, localize="all", probes=PROBES), templates).result
    truth = {s.item.caption: s.item.mask for s in templates}
    found: dict[str, Number] = {}
    for metric in {row.metric for row in result.masks}:
        rows = [row for row in result.masks if row.metric == metric]
        maps = [masks.from_heatmap(row.heatmap, row.height, row.width) for row in rows]
        regions = [truth[row.caption.text] for row in rows]
        for name, prepare in (("", _as_it_is), (" smoothed", masks.mean_filtered)):
            found[metric + name] = Number([overlap.sweep(maps, regions, prepare).best().iou])
    return found


def _as_it_is(values: Floats) -> Floats:
    return values


def screened(of: Scanned, samples: Sequence[Sample], steps: int) -> list[Cell]:
    """Return cost and quality of the same scan behind a screen, fitted and judged crosswise."""
    memorized = np.array([s.item.memorized for s in samples])
    half = np.cumsum(memorized) % 2 == 0
    norm, costs, folds = of.scores["wen_first"], [], []
    for fitted in (half, ~half):
        norms = np.sort(norm[memorized & fitted])
        screen = norms[math.floor((1 - RECALL) * (len(norms) + 1)) - 1]
        judged = ~memorized | ~fitted
        dropped = norm[judged] < screen
        scores = np.where(dropped, -1.0, of.scores["delta_s"][judged])
        costs.append(2 + (1 - dropped[~memorized[judged]].mean()) * (2 * steps - 2))
        few = [sample for sample, is_in in zip(samples, judged, strict=True) if is_in]
        folds.append(ranked(scores, memorized[judged], weights(few, memorized[judged])))
    quality: list[Cell] = [
        Number([float(np.mean([n.points for n in same]))], [np.mean([n.draws for n in same], 0)[0]])
        for same in zip(*folds, strict=True)
    ]
    return [Number([float(np.mean(costs))], digits=1), *quality]


def measured(
    testbed: Testbed, negatives: int, steps: Sequence[int], timesteps: Sequence[int],
    said: Callable[[str], None],
) -> Table:  # fmt: skip
    """Scan one testbed's captions in every way."""
    denoiser = models.load(str(testbed.folder / "pipeline"))
    of = own(testbed.seed, make.evaluation_items(testbed.seed, negatives))
    positive = np.array([sample.item.memorized for sample in of])
    weight, rows = weights(of, positive), list[list[Cell]]()
    for number in steps:
        spec = ScanSpec(
            steps=number, guidance_scale=GUIDANCE, detectors=("wen_first",), localize="none",
            maps=("delta_s", "delta_h"),
        )  # fmt: skip
        found, located = scanned(denoiser, spec, of), ious(denoiser, spec, of)
        where: list[Cell] = [located["delta_h"], located["delta_s smoothed"], ""]
        ranks, first = (ranked(found.scores[n], positive, weight) for n in ("delta_s", "wen_first"))
        rows += [
            [f"{number} steps, Δs", f"{found.evaluations:.0f}", *ranks, *where],
            [f"{number} steps, screen", *screened(found, of, number), *where],
            [f"{number} steps, first step's norm alone", "2", *first, "", "", ""],
        ]
        said(f"seed {testbed.seed}: {number} steps")
    for timestep in timesteps:
        spec = ScanSpec(
            source="image", timestep=timestep, localize="none",
            maps=("delta_s", "delta_h", "snap_back"),
        )  # fmt: skip
        found, located = scanned(denoiser, spec, of), ious(denoiser, spec, of)
        cost = f"{found.evaluations:.0f} + encoding"
        where = [located["delta_h"], located["delta_s smoothed"], located["snap_back"]]
        ranks, snaps = (ranked(found.scores[n], positive, weight) for n in ("delta_s", "snap_back"))
        rows += [
            [f"image, T = {timestep}, Δs", cost, *ranks, *where],
            [f"image, T = {timestep}, snap-back", cost, *snaps, "", "", ""],
        ]
        said(f"seed {testbed.seed}: image at T = {timestep}")
    rates = [tpr_name(rate, int((~positive).sum())) for rate in RATES]
    maps = ["IoU Δh", "IoU Δs smoothed", "IoU snap-back"]
    return Table(["way", "evaluations", "AUC", *rates, *maps], rows)


def integers(text: str) -> list[int]:
    """Return the numbers of a comma-separated list."""
    return [int(part) for part in text.split(",")]


def main() -> None:
    """Parse, measure, print, write."""
    parser = options(__doc__)
    parser.add_argument("--steps", type=integers, default=[5, 10, 20, 50])
    parser.add_argument("--timesteps", type=integers, default=[1, 21, 61, 201, 401, 601, 801])
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    tables = list[Table]()
    for testbed in testbeds(asked.testbed):
        tables.append(
            measured(
                testbed,
                asked.negatives,
                asked.steps,
                asked.timesteps,
                lambda s: print(s, flush=True),
            )
        )
        content = {
            "negatives": asked.negatives, "draws": DRAWS,
            "cost": together(tables).as_json(),
        }  # fmt: skip
        (asked.out / "cost.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print("", together(tables).markdown(), sep="\n")


if __name__ == "__main__":
    main()
