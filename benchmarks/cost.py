"""What a clean caption costs, and what that buys: sampling, fewer steps, a screen, the image.

Detection and localization on the planted corpus of the shipped model, in one process, every number
from a scan that ran here. Negatives are captions that were never trained on, and the half of the
repeated hard ones that calibrates nothing; of templates and negatives the image is one that was
never drawn in training. Each score ranks captions under one seed::

    python benchmarks/cost.py --out /tmp/cost                      # all of it
    python benchmarks/cost.py --out /tmp/cost --negatives 80 --steps 20,5 --timesteps 21,61,401

It prints Markdown tables and writes them with all numbers to ``cost.json``. The rows of the cascade
are computed from the same scans as those without it: a screen changes no other number
(``tests/scan/test_screen.py``). Its threshold is fitted on one half of the planted captions and
judged on the other, both ways.
"""

import argparse
import hashlib
import io
import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from scanner import masks, models
from scanner.audit import overlap
from scanner.audit.detection import ranking
from scanner.models.base import Denoiser
from scanner.records import Caption, ScoreRow
from scanner.scan.scanner import Scanner
from scanner.spec import ScanSpec
from scanner.testbed import SHIPPED_SEED, WEIGHTS, corpus, make

Floats = NDArray[np.float64]
Table = tuple[list[str], list[list[str]]]

GUIDANCE, PROBES, BATCH = 2.5, 4, 32
RECALL = 0.95
HELD_OUT, TRAINED = 1_000_000, 0
"""Copy numbers that were not drawn in training, and one that was."""
SHARED = ("template", "name", "art")
"""Kinds whose captions have trained images and others."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A caption beside an image.

    Attributes:
        item: Whose caption it is.
        image: PNG bytes.
        what: ``own``, ``swapped`` or ``trained``.
    """

    item: corpus.Item
    image: bytes
    what: str

    def as_caption(self) -> Caption:
        """Return it as a scan takes it; the key says which sample it is."""
        digest = hashlib.sha256(self.image).hexdigest()[:8]
        key = f"{self.what}-{digest}-{self.item.caption[:20]}"
        return Caption("planted", key, self.item.caption, image=self.image)


@dataclass(frozen=True, slots=True)
class Measured:
    """What one way of scanning gives.

    Attributes:
        name: Of the way.
        evaluations: Forward evaluations of a clean caption.
        scores: By score name, one per sample in order.
        seconds: Wall time of the scan of all samples.
        iou: On templates, by map and whether smoothed; the best threshold.
    """

    name: str
    evaluations: float
    scores: dict[str, Floats]
    seconds: float
    iou: dict[str, float]


def png(seed: int, item: corpus.Item, copy: int) -> bytes:
    """Return a picture of the corpus as PNG."""
    stream = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(corpus.picture(seed, item, copy))).save(stream, "PNG")
    return stream.getvalue()


def samples(seed: int, negatives: int) -> list[Sample]:
    """Return own images beside their captions, swapped ones, and trained ones."""
    items = make.evaluation_items(seed, negatives)
    own = [
        Sample(item, png(seed, item, TRAINED if item.kind == "verbatim" else HELD_OUT), "own")
        for item in items
    ]
    others = [sample.image for sample in own if not sample.item.memorized]
    memorized = [sample for sample in own if sample.item.memorized]
    swapped = [
        replace(sample, image=others[7 * n % len(others)], what="swapped")
        for n, sample in enumerate(memorized)
    ]
    trained = [
        Sample(item, png(seed, item, TRAINED), "trained") for item in items if item.kind in SHARED
    ]
    return [*own, *swapped, *trained]


def scanned(
    denoiser: Denoiser, spec: ScanSpec, of: Sequence[Sample]
) -> tuple[list[ScoreRow], float, float]:
    """Return a row per sample in order, evaluations per sample, and seconds."""
    scanner = Scanner(denoiser, spec, batch_size=BATCH)
    captions = [sample.as_caption() for sample in of]
    start = time.perf_counter()
    rows = {row.caption.key: row for row in scanner.scan(captions).scores}
    seconds = time.perf_counter() - start
    return [rows[c.key] for c in captions], scanner.evaluations["forward"] / len(of), seconds


def ious(denoiser: Denoiser, spec: ScanSpec, of: Sequence[Sample]) -> dict[str, float]:
    """Return the best IoU over thresholds of every map of the templates."""
    templates = [s for s in of if s.item.kind == "template" and s.what == "own"]
    asked = replace(spec, localize="all", probes=PROBES)
    result = Scanner(denoiser, asked, batch_size=BATCH).scan([s.as_caption() for s in templates])
    truth = {s.item.caption: s.item.mask for s in templates}
    found: dict[str, float] = {}
    for metric in {row.metric for row in result.masks}:
        rows = [row for row in result.masks if row.metric == metric]
        maps = [masks.from_heatmap(row.heatmap, row.height, row.width) for row in rows]
        regions = [truth[row.caption.text] for row in rows]
        for name, prepare in (("", _as_it_is), (" smoothed", masks.mean_filtered)):
            found[metric + name] = overlap.sweep(maps, regions, prepare).best().iou
    return found


def _as_it_is(values: Floats) -> Floats:
    return values


def measure(
    denoiser: Denoiser, name: str, spec: ScanSpec, of: Sequence[Sample]
) -> Measured:  # fmt: skip
    """Scan samples one way."""
    rows, evaluations, seconds = scanned(denoiser, replace(spec, localize="none"), of)
    scores = {"delta_s": np.array([row.delta_s for row in rows], float)}
    for column in rows[0].extra:
        scores[column] = np.array([row.extra[column] for row in rows])
    print(f"{name}: {seconds:.0f} s", flush=True)
    return Measured(name, evaluations, scores, seconds, ious(denoiser, spec, of))


def ranked(scores: Floats, positive: NDArray[np.bool_]) -> list[str]:
    """Return AUC, and TPR at 1% and 0.1% FPR."""
    found = ranking(scores, positive, np.ones((1, len(scores))))
    numbers = (found.auc[0], found.tpr["1%"][0], found.tpr["0.1%"][0])
    return [f"{number:.3f}" for number in numbers]


def cascaded(of: Measured, samples: Sequence[Sample], steps: int) -> tuple[list[str], dict]:
    """Return a row of the table for the same scan behind a screen, fitted and judged crosswise."""
    memorized = np.array([s.item.memorized for s in samples])
    half = np.cumsum(memorized) % 2 == 0
    norm, folds = of.scores["wen_first"], []
    for fitted in (half, ~half):
        norms = np.sort(norm[memorized & fitted])
        screen = norms[math.floor((1 - RECALL) * (len(norms) + 1)) - 1]
        judged = ~memorized | ~fitted
        dropped = norm[judged] < screen
        scores = np.where(dropped, -1.0, of.scores["delta_s"][judged])
        passing = 1 - dropped[~memorized[judged]].mean()
        recall = 1 - dropped[memorized[judged]].mean()
        folds.append(
            [2 + passing * (2 * steps - 2), recall, *map(float, ranked(scores, memorized[judged]))]
        )
    cost, recall, *quality = np.mean(folds, axis=0)
    row = [f"{of.name}, screen", f"{cost:.1f}", *(f"{q:.3f}" for q in quality)]
    return row, {"recall": recall, "evaluations": cost, "quality": quality}


def main_table(
    sampled: Sequence[tuple[int, Measured]], imaged: Sequence[tuple[int, Measured]],
    of: Sequence[Sample],
) -> tuple[Table, dict]:  # fmt: skip
    """Return cost against quality, and the screens' numbers."""
    own = np.array([s.what == "own" for s in of])
    head = ["way", "evaluations", "AUC", "TPR at 1%", "TPR at 0.1%", "IoU Δh", "IoU Δs smoothed"]
    positive = np.array([s.item.memorized for s in of])[own]
    rows, screens = [], {}
    for steps, one in sampled:
        located = [f"{one.iou['delta_h']:.3f}", f"{one.iou['delta_s smoothed']:.3f}"]
        cost = f"{one.evaluations:.0f}"
        rows.append([f"{one.name}, Δs", cost, *ranked(one.scores["delta_s"], positive), *located])
        row, screens[one.name] = cascaded(one, [s for s in of if s.what == "own"], steps)
        rows.append([*row, *located])
        ranks = ranked(one.scores["wen_first"], positive)
        rows.append([f"{one.name}, first step's norm alone", "2", *ranks, "", ""])
    for _, one in imaged:
        located = [f"{one.iou['delta_h']:.3f}", f"{one.iou['delta_s smoothed']:.3f}"]
        for name, column in (("Δs", "delta_s"), ("snap-back", "snap_back")):
            shown = located if column == "delta_s" else [f"{one.iou['snap_back']:.3f} (own)", ""]
            ranks = ranked(one.scores[column][own], positive)
            rows.append(
                [f"{one.name}, {name}", f"{one.evaluations:.0f} + encoding", *ranks, *shown]
            )
    return (head, rows), screens


def control_table(imaged: Sequence[tuple[int, Measured]], of: Sequence[Sample]) -> Table:
    """Return what unrelated images beside memorized captions do, and trained images."""
    what = np.array([s.what for s in of])
    memorized = np.array([s.item.memorized for s in of])
    kinds = np.array([s.item.kind for s in of])
    own, swapped, null = (
        (what == "own") & memorized,
        what == "swapped",
        (what == "own") & ~memorized,
    )
    head = [
        "image at", "own against swapped, Δs", "the same, snap-back", "swapped called, Δs",
        "called, Δs and snap-back", "own called, both",
        *(f"trained against held-out, {kind}: Δs / snap-back" for kind in SHARED),
    ]  # fmt: skip
    rows = []
    for timestep, one in imaged:
        called = {
            name: scores > np.quantile(scores[null], 0.99, method="higher")
            for name, scores in one.scores.items() if name in ("delta_s", "snap_back")
        }  # fmt: skip
        both = called["delta_s"] & called["snap_back"]
        apart = [_auc(one.scores[n], own, swapped) for n in ("delta_s", "snap_back")]
        shares = [called["delta_s"][swapped].mean(), both[swapped].mean(), both[own].mean()]
        cells = [f"T = {timestep}", *(f"{n:.3f}" for n in apart), *(f"{n:.1%}" for n in shares)]
        for kind in SHARED:
            pair = ((what == w) & (kinds == kind) for w in ("trained", "own"))
            trained, other = pair
            numbers = [_auc(one.scores[n], trained, other) for n in ("delta_s", "snap_back")]
            cells.append(" / ".join(f"{n:.2f}" for n in numbers))
        rows.append(cells)
    return head, rows


def _auc(scores: Floats, positive: NDArray[np.bool_], negative: NDArray[np.bool_]) -> float:
    chosen = positive | negative
    one = np.ones((1, int(chosen.sum())))
    return float(ranking(scores[chosen], positive[chosen], one).auc[0])


def markdown(table: Table) -> str:
    """Return a table as Markdown."""
    head, rows = table
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def run(pipeline: Path, seed: int, negatives: int, steps: list[int], timesteps: list[int]) -> dict:
    """Measure everything; return tables and numbers."""
    denoiser = models.load(str(pipeline))
    of = samples(seed, negatives)
    own = [s for s in of if s.what == "own"]
    imaged = [
        (t, measure(denoiser, f"image, T = {t}", ScanSpec(
            source="image", timestep=t, maps=("delta_s", "delta_h", "snap_back"),
        ), of)) for t in timesteps
    ]  # fmt: skip
    sampled = [
        (k, measure(denoiser, f"{k} steps", ScanSpec(
            steps=k, guidance_scale=GUIDANCE, detectors=("wen_first",), maps=("delta_s", "delta_h"),
        ), own)) for k in steps
    ]  # fmt: skip
    table, screens = main_table(sampled, imaged, of)
    control = control_table(imaged, of)
    print("", markdown(table), "", markdown(control), sep="\n")
    numbers = {
        one.name: {
            "evaluations": one.evaluations, "seconds": one.seconds, "iou": one.iou,
            "scores": {name: values.tolist() for name, values in one.scores.items()},
        }
        for _, one in [*sampled, *imaged]
    }  # fmt: skip
    return {
        "seed": seed, "negatives": sum(not s.item.memorized for s in own),
        "positives": sum(s.item.memorized for s in own),
        "samples": [[s.what, s.item.kind, s.item.caption] for s in of],
        "cost": table, "control": control, "screens": screens, "ways": numbers,
    }  # fmt: skip


def integers(text: str) -> list[int]:
    """Return the numbers of a comma-separated list."""
    return [int(part) for part in text.split(",")]


def main() -> None:
    """Parse, measure, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for cost.json")
    parser.add_argument("--pipeline", type=Path, default=WEIGHTS / "pipeline")
    parser.add_argument("--seed", type=int, default=SHIPPED_SEED, help="corpus seed")
    parser.add_argument("--negatives", type=int, default=160, help="fresh negatives")
    parser.add_argument("--steps", type=integers, default=[5, 10, 20, 50])
    parser.add_argument("--timesteps", type=integers, default=[1, 21, 61, 201, 401, 601, 801])
    asked = parser.parse_args()
    found = run(asked.pipeline, asked.seed, asked.negatives, asked.steps, asked.timesteps)
    asked.out.mkdir(parents=True, exist_ok=True)
    (asked.out / "cost.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
