"""What half precision does to decisions: AUC, p-values and masks in float16 beside float32.

Both shipped models; memorized captions, captions that calibrate, and other clean ones. Each
precision has its own null scores, as a scan's calibration does. On a CPU half precision is four
times as slow as float32: with the defaults the two models take half an hour of one core.

    python benchmarks/half_precision.py [--dtypes float16,bfloat16] [--captions 60] [--device cuda]
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parents[1]))

from gpu_checks import mask_overlaps
from planted import markdown

from scanner import models
from scanner.analysis import overlap
from scanner.analysis.detection import ranking
from scanner.records import Caption
from scanner.scan.scanner import Scanner
from scanner.spec import ScanSpec
from scanner.testbed import SHIPPED_SEED, WEIGHTS, corpus, dit, make

Floats = NDArray[np.float64]
SCORES = ("delta_s", "wen")
MAPS = ("delta_s", "delta_h")
RATE = 0.05
"""False-positive rate at which decisions are compared; with 60 null scores 1% has no threshold."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A shipped model and its captions.

    Attributes:
        name: For a person.
        folder: The pipeline.
        memorized: Verbatim and template items.
        nulls: Captions that calibrate, none of them scored.
        clean: Other clean ones.
    """

    name: str
    folder: Path
    memorized: list[corpus.Item]
    nulls: list[corpus.Item]
    clean: list[corpus.Item]


@dataclass(frozen=True, slots=True)
class Numbers:
    """What one precision gives.

    Attributes:
        scores: By score, of memorized captions and then of the clean ones.
        p_values: The same.
        maps: By map, of the memorized captions.
        rejected: Captions without a number.
    """

    scores: dict[str, Floats]
    p_values: dict[str, Floats]
    maps: dict[str, list[Floats]]
    rejected: int


def subjects(number: int, memorized: int) -> list[Subject]:
    """Return both shipped models.

    Args:
        number: Fresh captions that calibrate, and that are scored; traps come on top.
        memorized: Captions that are known by heart, about.
    """
    found = list[Subject]()
    for name, folder, seed, planted in (
        ("U-Net", "pipeline", SHIPPED_SEED, corpus.planted(SHIPPED_SEED)),
        ("transformer", "dit", dit.SEED, corpus.half(dit.SEED)),
    ):
        items = make.evaluation_items(seed, number, planted)
        known = [item for item in items if item.memorized]
        clean = [item for item in items if not item.memorized]
        nulls = make.calibration_items(seed, number, planted)
        kept = known[:: max(1, len(known) // memorized)]
        found.append(Subject(name, WEIGHTS / folder, kept, nulls, clean))
    return found


def numbers_of(subject: Subject, dtype: str, asked: argparse.Namespace) -> Numbers:
    """Return what a precision gives."""
    spec = ScanSpec(steps=asked.steps, guidance_scale=2.5, probes=4, localize="all", maps=MAPS,
                    detectors=("wen",), dtype=dtype)  # fmt: skip
    model = models.load(str(subject.folder), device=asked.device, dtype=dtype)
    scanner = Scanner(model, spec, batch_size=asked.batch)
    items = [*subject.memorized, *subject.nulls, *subject.clean]
    known = {item.caption for item in subject.memorized}
    chunk = scanner.detect(
        [Caption("made", f"{n:05d}", item.caption) for n, item in enumerate(items)]
    )
    scanner.localize([state for state in chunk.waiting if state.draw.text in known])
    states = {state.draw.text: state for state in chunk.waiting}
    every = {
        "delta_s": [states[item.caption].delta_s for item in items],
        "wen": [states[item.caption].extra["wen"] for item in items],
    }
    first, last = len(subject.memorized), len(subject.memorized) + len(subject.nulls)
    scores, p_values = dict[str, Floats](), dict[str, Floats]()
    for name, values in every.items():
        array = np.array(values)
        nulls = np.sort(array[first:last])
        scores[name] = np.concatenate([array[:first], array[last:]])
        above = len(nulls) - np.searchsorted(nulls, scores[name], side="left")
        p_values[name] = (above + 1) / (len(nulls) + 1)
    maps = {
        name: [
            states[item.caption].maps[name, "null"].astype(np.float64) for item in subject.memorized
        ]
        for name in MAPS
    }
    return Numbers(scores, p_values, maps, len(chunk.failures))


def best_iou(subject: Subject, maps: Sequence[Floats]) -> float:
    """Return the pooled IoU on templates at the threshold that is best on these maps."""
    of = [n for n, item in enumerate(subject.memorized) if item.kind == "template"]
    inter, union = overlap.counts(
        [maps[n] for n in of], [subject.memorized[n].mask for n in of], lambda values: values
    )
    return float((inter.sum(0) / union.sum(0)).max())


def rows_of(subject: Subject, dtypes: Sequence[str], asked: argparse.Namespace) -> list[list[str]]:
    """Return a row for each precision and score, float32 first."""
    rows, reference = list[list[str]](), None
    positive = np.arange(len(subject.memorized) + len(subject.clean)) < len(subject.memorized)
    for dtype in dtypes:
        own = numbers_of(subject, dtype, asked)
        reference = reference or own
        for name in SCORES:
            auc = ranking(own.scores[name], positive, np.ones((1, len(positive)))).auc[0]
            p, before = own.p_values[name], reference.p_values[name]
            cells = [
                f"{auc:.4f}",
                f"{np.abs(own.scores[name] / reference.scores[name] - 1).max():.1e}",
                f"{np.abs(p - before).max():.3f}",
                f"{((p <= RATE) != (before <= RATE)).sum()} of {len(p)}",
            ]
            rows.append([subject.name, dtype, f"`{name}`", *cells, "", ""])
        for name in MAPS:
            overlaps = mask_overlaps(own.maps[name], reference.maps[name])
            cells = [f"{best_iou(subject, own.maps[name]):.4f}", f"{min(overlaps):.3f}"]
            rows.append([subject.name, dtype, f"map `{name}`", "", "", "", "", *cells])
        print(f"{subject.name} in {dtype}: {own.rejected} without a number", file=sys.stderr)
    return rows


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--dtypes", default="float16", help="beside float32")
    parser.add_argument("--captions", type=int, default=60)
    parser.add_argument("--memorized", type=int, default=40)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--device", default="cpu")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    dtypes = ["float32", *asked.dtypes.split(",")]
    rows = [
        row
        for subject in subjects(asked.captions, asked.memorized)
        for row in rows_of(subject, dtypes, asked)
    ]
    heads = [
        "model", "precision", "of", "AUC", "largest change", "largest change of a p-value",
        f"decisions at {RATE:.0%} that differ", "best IoU, templates", "least IoU with float32",
    ]  # fmt: skip
    print("\n".join(markdown(heads, rows)))


if __name__ == "__main__":
    main()
