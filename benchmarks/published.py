"""memscan against the published procedure: captions a second, detection, maps.

The published procedure is `published_procedure.py`: one caption at a time, a trajectory for the
score and another for the map of every caption. memscan scans the same captions from the same noise,
in the same process, on one thread, by each of its presets::

    python benchmarks/published.py --out published --docs docs/measurements.md   # the full form
    python benchmarks/published.py --out published --model unet --captions 4 --negatives 4 --exact 0

Memorized captions go through everything and are timed, by blocks in which the order of the ways
turns round from one to the next; of the others there is the score alone, because what a caption
costs does not depend on what it is. ``structured`` is ``paper`` with structured products in place
of Rademacher's, ``image`` is ``fast`` at the samples' images. Prints tables, and writes them with
all numbers as ``published.md`` and ``.json`` into ``--out``.
"""

import json
from argparse import ArgumentParser, Namespace, RawTextHelpFormatter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from textwrap import wrap
from typing import Any

import numpy as np
import torch
from planted import DRAWS, Bools, Floats, Sample, markdown, weights, written
from published_procedure import GUIDANCE, PRODUCTS, STEPS
from published_runs import SUBJECTS, THEIRS, Measured, Spent, Way, measured
from real_sizes import letters

from scanner.analysis import overlap
from scanner.analysis.detection import detection_row, family_weights, ranking, tpr_name
from scanner.testbed import corpus

MARKS = ("<!-- published: begin -->", "<!-- published: end -->")
GOALS = {"paper": 5, "structured": 5, "balanced": 60, "fast": 200}
"""How many times as many captions a second a preset should do."""
SAME_POINT = ("paper", "structured")
"""Presets that take maps where the published procedure does."""
ROUNDING = 1.01
"""Within this factor two errors of maps are the same."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with its 95% interval; both ends are NaN where there is none."""

    point: float
    low: float = float("nan")
    high: float = float("nan")

    @classmethod
    def drawn(cls, values: Floats) -> "Estimate":
        """Return a number, the first, with the interval of its bootstrap samples, the others."""
        return cls(float(values[0]), *map(float, np.nanquantile(values[1:], [0.025, 0.975])))

    def __str__(self) -> str:
        """Return it for a table."""
        if np.isnan(self.low) or self.low == self.high:
            return f"{self.point:z.3f}"
        return f"{self.point:z.3f} ({self.low:z.3f} to {self.high:z.3f})"


@dataclass(frozen=True, slots=True)
class Quality:
    """How well a way detects and localizes.

    Attributes:
        auc: Of the score.
        auc_gain: Less the published procedure's, on the same captions.
        tpr: At 1%.
        iou: Of Δh on templates, at the best threshold.
        iou_gain: Less the published procedure's.
        error: Of maps, the median; null where nobody knows the exact ones.
    """

    auc: Estimate
    auc_gain: Estimate
    tpr: Estimate
    iou: Estimate
    iou_gain: Estimate
    error: float | None


def aucs(way: Way, of: Sequence[Sample], positive: Bools) -> Floats:
    """Return the AUC, and that of each bootstrap sample of families."""
    scores = np.array([way.scores[sample.item.caption] for sample in of])
    return ranking(scores, positive, weights(of, positive)).auc


def ious(way: Way, templates: Sequence[corpus.Item]) -> Floats:
    """Return the pooled IoU at its best threshold, and that of each bootstrap sample."""
    maps = [way.maps[item.caption] for item in templates]
    inter, union = overlap.counts(maps, [item.mask for item in templates], lambda values: values)
    families = np.array([item.family for item in templates])
    every = np.ones(len(families), bool)
    drawn = family_weights(families, every, DRAWS, np.random.default_rng(0))
    weight = np.concatenate([np.ones((1, len(families))), drawn])
    return ((weight @ inter) / (weight @ union)).max(1)


def qualities(found: Measured) -> dict[str, Quality]:
    """Return how well each way detects and localizes, beside the published procedure."""
    of, theirs = found.of, found.ways[THEIRS]
    positive = np.array([sample.item.memorized for sample in of])
    families = np.array([sample.item.family for sample in of])
    templates = [sample.item for sample in of if sample.item.kind == "template"]
    their_auc, their_iou = aucs(theirs, of, positive), ious(theirs, templates)
    rows = dict[str, Quality]()
    for name, way in found.ways.items():
        auc, iou = aucs(way, of, positive), ious(way, templates)
        scores = np.array([way.scores[sample.item.caption] for sample in of])
        row: Any = detection_row(scores, positive, families, DRAWS, np.random.default_rng(0))
        rows[name] = Quality(
            Estimate(row["auc"], *row["auc_interval"]), Estimate.drawn(auc - their_auc),
            Estimate(row["tpr@1%"], *row["tpr@1%_interval"]), Estimate.drawn(iou),
            Estimate.drawn(iou - their_iou),
            float(np.median(list(way.errors.values()))) if way.errors else None,
        )  # fmt: skip
    return rows


def ratios(found: Measured, flagged: float) -> dict[str, list[Spent]]:
    """Return how many times as many captions a second each way does.

    Of captions of which none is mapped, of which a share is, and of which all are; the published
    procedure maps all.
    """
    theirs = found.ways[THEIRS].each(1)
    return {
        name: [theirs.over(way.each(share)) for share in (0.0, flagged, 1.0)]
        for name, way in found.ways.items()
    }


def cost_table(every: Sequence[Measured], flagged: float) -> list[str]:
    """Return the lines of the table of costs."""
    heads = [
        "model", "way", "a caption", "with maps", "captions/s over published, no maps",
        f"maps of {100 * flagged:g}%", "maps of all",
    ]  # fmt: skip
    rows = list[list[str]]()
    for found in every:
        for name, row in ratios(found, flagged).items():
            way = found.ways[name]
            counts = [letters(way.evaluations[which]) for which in ("clean", "mapped")]
            cells = [f"{one.wall:.1f} ({one.processor:.1f})" for one in row]
            if name == THEIRS:
                counts, cells = ["—", counts[1]], ["—", "—", "1"]
            rows.append([found.subject.name, name, *counts, *cells])
    return markdown(heads, rows)


def quality_table(every: Sequence[Measured], quality: Sequence[Mapping[str, Quality]]) -> list[str]:
    """Return the lines of the table of detection and maps."""
    negatives = sum(not sample.item.memorized for sample in every[0].of)
    heads = [
        "model", "way", "AUC", "less published", tpr_name("1%", negatives), "IoU, templates",
        "less published", "error of the map",
    ]  # fmt: skip
    rows = list[list[str]]()
    for found, mine in zip(every, quality, strict=True):
        for name, row in mine.items():
            gains = ["—" if name == THEIRS else str(gain) for gain in (row.auc_gain, row.iou_gain)]
            error = "—" if row.error is None else f"{row.error:.3f}"
            cells = [row.auc, gains[0], row.tpr, row.iou, gains[1], error]
            rows.append([found.subject.name, name, *map(str, cells)])
    return markdown(heads, rows)


def goal_table(
    every: Sequence[Measured], quality: Sequence[Mapping[str, Quality]], flagged: float
) -> list[str]:
    """Return the lines of the table of goals, each met or missed.

    A ratio is judged by the worse of the two clocks. Detection and localization are missed where
    the whole interval of the difference from the published procedure lies below 0, and the error of
    maps, at the same point, where it is larger by more than rounding.
    """
    heads = [
        "model", "way", "captions/s over published", f"maps of {100 * flagged:g}%", "maps of all",
        "AUC", "IoU", "error of the map",
    ]  # fmt: skip
    rows = list[list[str]]()
    for found, mine in zip(every, quality, strict=True):
        for name, row in ratios(found, flagged).items():
            if name not in GOALS:
                continue
            is_met = [min(asdict(one).values()) >= GOALS[name] for one in row[1:]]
            is_met += [one.high >= 0 for one in (mine[name].auc_gain, mine[name].iou_gain)]
            judged = ["met" if one else "**missed**" for one in is_met]
            errors = mine[name].error, mine[THEIRS].error
            if name not in SAME_POINT or errors[0] is None or errors[1] is None:
                judged.append("—")
            else:
                judged.append("met" if errors[0] <= ROUNDING * errors[1] else "**missed**")
            rows.append([found.subject.name, name, f"≥ {GOALS[name]}", *judged])
    return markdown(heads, rows)


def disagreement(found: Measured) -> tuple[float, float] | None:
    """Return the largest relative difference of ``paper`` from the restatement: scores and maps.

    Null where ``paper`` has other settings, or was not run.
    """
    theirs, ours = found.ways[THEIRS], found.ways.get("paper")
    if ours is None or _settings(ours) != _settings(theirs, trajectories=2):
        return None
    scores = [abs(ours.scores[c] / s - 1) for c, s in theirs.scores.items()]
    maps = [np.linalg.norm(ours.maps[c] - m) / np.linalg.norm(m) for c, m in theirs.maps.items()]
    return max(scores), float(max(maps))


def _settings(way: Way, trajectories: int = 1) -> tuple[float, int]:
    """Return the steps and the products that a way's evaluations tell of."""
    forward = way.evaluations["clean"]["forward"] / (2 * trajectories)
    return forward, way.evaluations["mapped"]["vjp"]


def text(every: Sequence[Measured], asked: Namespace) -> str:
    """Return all tables as Markdown, with what they are of."""
    of = every[0].of
    memorized = [sample.item for sample in of if sample.item.memorized]
    templates = sum(item.kind == "template" for item in memorized)
    rates = ", ".join(
        f"{found.subject.name} {3600 / found.ways[THEIRS].each(1).processor:,.0f}"
        for found in every
    )
    about = [
        f"Of each model {len(memorized)} memorized captions ({templates} templates) in blocks of "
        f"{asked.batch}, and {len(of) - len(memorized)} others; guidance {asked.guidance:g}, one "
        f"thread, torch {torch.__version__}. Published, captions an hour of the processor: {rates}."
    ]
    about += [
        f"{found.subject.name}: scores of `paper` are within {apart[0]:.0e} of the "
        f"restatement's, stored maps within {apart[1]:.0e}."
        for found in every
        if (apart := disagreement(found)) is not None
    ]
    quality = [qualities(found) for found in every]
    parts = [
        wrap(" ".join(about), 120), cost_table(every, asked.flagged),
        quality_table(every, quality), goal_table(every, quality, asked.flagged),
    ]  # fmt: skip
    return "\n\n".join("\n".join(part) for part in parts)


def content(every: Sequence[Measured], asked: Namespace) -> dict[str, Any]:
    """Return all numbers for a program."""
    return {
        "asked": {n: str(v) if isinstance(v, Path) else v for n, v in vars(asked).items()},
        "models": {
            found.subject.name: {
                name: {
                    "clean": [asdict(one) for one in way.clean],
                    "mapped": [asdict(one) for one in way.mapped],
                    "captions": way.captions, "evaluations": way.evaluations,
                    "scores": way.scores, "errors": way.errors,
                    "ratios": [asdict(one) for one in ratios(found, asked.flagged)[name]],
                }
                for name, way in found.ways.items()
            }
            for found in every
        },
    }  # fmt: skip


def options() -> ArgumentParser:
    """Return the command line."""
    parser = ArgumentParser(description=__doc__, formatter_class=RawTextHelpFormatter)
    add = parser.add_argument
    add("--out", type=Path, required=True, help="folder for what was measured")
    add("--docs", type=Path, help="a page that gets the tables between its marks")
    add("--model", action="append", choices=tuple(SUBJECTS), help="repeat; default all")
    add("--preset", action="append", help="repeat; default all",
        choices=("paper", "structured", "balanced", "fast", "image"))  # fmt: skip
    add("--captions", type=int, default=18, help="memorized captions of each model, timed")
    add("--negatives", type=int, default=40, help="others, scored alone")
    add("--exact", type=int, default=2, help="templates with the exact diagonal")
    add("--batch", type=int, default=9, help="captions that memscan takes at a time, and a block")
    add("--guidance", type=float, default=GUIDANCE, help="of both; the models' own is 2.5")
    add("--steps", type=int, default=STEPS, help="of the published procedure")
    add("--products", type=int, default=PRODUCTS, help="of the published procedure, for a branch")
    add("--flagged", type=float, default=0.01, help="share of captions that a scan maps")
    return parser


def main() -> None:
    """Measure, print, and write the page if there is one."""
    torch.set_num_threads(1)
    asked = options().parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    every = list[Measured]()
    for name in asked.model or SUBJECTS:
        every.append(measured(SUBJECTS[name], asked, lambda line: print(line, flush=True)))
        (asked.out / "published.md").write_text(text(every, asked) + "\n", encoding="utf-8")
        numbers = json.dumps(content(every, asked), indent=1)
        (asked.out / "published.json").write_text(numbers + "\n", encoding="utf-8")
    print("", text(every, asked), sep="\n")
    if asked.docs:
        written(asked.docs, MARKS, text(every, asked))


if __name__ == "__main__":
    main()
