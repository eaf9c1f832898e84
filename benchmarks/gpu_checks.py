"""Whether a device's scores, maps and masks are those of a CPU in float32."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from gpu_report import Report, Row
from numpy.typing import NDArray

from scanner import masks, models
from scanner.records import Caption
from scanner.scan.scanner import Scanner
from scanner.spec import ScanSpec
from scanner.testbed import SHIPPED_SEED, WEIGHTS, corpus, dit, make

Floats = NDArray[np.float64]
SHARE = 0.5
"""A pixel is in a mask above this share of its map's own level."""


@dataclass(frozen=True, slots=True)
class Numbers:
    """What one way of computing gives for captions, the memorized ones first.

    Attributes:
        scores: Δs, ``(captions,)``.
        maps: Δh, ``(captions, H, W)``.
    """

    scores: Floats
    maps: Floats


Spoil = Callable[[Numbers], Numbers]


@dataclass(frozen=True, slots=True)
class Tolerance:
    """What a way may differ by.

    Attributes:
        score: Largest change of a Δs, relative to it.
        map: Largest change of a memorized caption's Δh, its norm relative to the map's.
        iou: Smallest overlap of a memorized caption's masks.
        rank: Smallest rank correlation of Δs over all captions.
    """

    score: float
    map: float
    iou: float
    rank: float

    def __str__(self) -> str:
        return (
            f"Δs ≤ {self.score:g}, Δh of memorized ≤ {self.map:g}, IoU ≥ {self.iou:g}, "
            f"rank correlation ≥ {self.rank:g}"
        )


@dataclass(frozen=True, slots=True)
class Way:
    """A way to compute the same numbers.

    Attributes:
        name: For a person.
        dtype: Precision of the networks.
        tf32: Whether products of float32 matrices and convolutions may round their factors to
            ten bits.
        tolerance: What it may differ by.
    """

    name: str
    dtype: str
    tf32: bool
    tolerance: Tolerance


EXACT = Tolerance(score=2e-3, map=2e-3, iou=0.98, rank=0.99)
TEN_BITS = Tolerance(score=0.05, map=0.02, iou=0.95, rank=0.95)
SEVEN_BITS = Tolerance(score=0.3, map=0.1, iou=0.85, rank=0.9)

WAYS = (
    Way("float32, TF32 off", "float32", False, EXACT),
    Way("float32, TF32 on", "float32", True, TEN_BITS),
    Way("float16", "float16", False, TEN_BITS),
    Way("bfloat16", "bfloat16", False, SEVEN_BITS),
)
"""Their tolerances are several times what `precision.py` and this program saw on CPUs: 7e-6 and
0.7% of a score in float32 (in other batches) and float16, 12% in bfloat16."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A shipped model that is checked.

    Attributes:
        name: For a person.
        source: Its folder.
        memorized: Captions that it knows by heart.
        clean: Captions that it never saw.
    """

    name: str
    source: str
    memorized: list[str]
    clean: list[str]


def subjects(number: int) -> list[Subject]:
    """Return the shipped models, with so many captions each, half of them memorized."""
    found = list[Subject]()
    for name, folder, seed, planted in (
        ("shipped U-Net", "pipeline", SHIPPED_SEED, corpus.planted(SHIPPED_SEED)),
        ("shipped transformer", "dit", dit.SEED, corpus.half(dit.SEED)),
    ):
        items = make.evaluation_items(seed, 2 * number, planted)
        memorized = [item.caption for item in items if item.memorized][: number // 2]
        clean = [item.caption for item in items if not item.memorized]
        found.append(
            Subject(name, str(WEIGHTS / folder), memorized, clean[: number - len(memorized)])
        )
    return found


@contextmanager
def factors(*, tf32: bool) -> Iterator[None]:
    """Let float32 products on CUDA round their factors, or not, for a while."""
    products, convolutions = torch.backends.cuda.matmul, torch.backends.cudnn
    before = products.allow_tf32, convolutions.allow_tf32
    products.allow_tf32 = convolutions.allow_tf32 = tf32
    try:
        yield
    finally:
        products.allow_tf32, convolutions.allow_tf32 = before


def numbers(of: Subject, spec: ScanSpec, device: str, batch: int) -> Numbers:
    """Return Δs and Δh of a subject's captions, by the scanner's own stages."""
    scanner = Scanner(models.load(of.source, device=device, dtype=spec.dtype), spec,
                      batch_size=batch)  # fmt: skip
    texts = [*of.memorized, *of.clean]
    chunk = scanner.detect([Caption("made", f"{n:05d}", text) for n, text in enumerate(texts)])
    scanner.localize(chunk.waiting)
    by_text = {item.draw.text: item for item in chunk.waiting}
    items = [by_text[text] for text in texts]
    return Numbers(
        np.array([item.delta_s for item in items]),
        np.stack([item.maps["delta_h", "null"] for item in items]).astype(np.float64),
    )


def ranks_together(a: Floats, b: Floats) -> float:
    """Return the rank correlation of two lists of numbers without ties."""
    return float(np.corrcoef(a.argsort().argsort(), b.argsort().argsort())[0, 1])


def mask_overlaps(own: Iterable[Floats], reference: Iterable[Floats]) -> list[float]:
    """Return the IoU of the masks of maps, pair by pair, each by its map's own level."""
    pairs = zip(own, reference, strict=True)
    return [
        masks.intersection_over_union(*(masks.region(each, 0.0, SHARE)[1] for each in pair))
        for pair in pairs
    ]


def compared(own: Numbers, reference: Numbers, memorized: int) -> Row:
    """Return how far numbers are from the reference's."""
    apart = np.linalg.norm(own.maps - reference.maps, axis=(1, 2))
    apart /= np.linalg.norm(reference.maps, axis=(1, 2))
    overlaps = mask_overlaps(own.maps[:memorized], reference.maps[:memorized])
    return {
        "largest_score": float(np.abs(own.scores / reference.scores - 1).max()),
        "largest_map": float(apart[:memorized].max()),
        "largest_clean_map": float(apart[memorized:].max()),
        "smallest_iou": float(min(overlaps)),
        "rank": ranks_together(own.scores, reference.scores),
    }


def verdict(row: Row, allowed: Tolerance) -> str:
    """Return ``PASS``, or ``FAIL`` if a number is beyond its tolerance or is none."""
    passed = (
        row["largest_score"] <= allowed.score and row["largest_map"] <= allowed.map
        and row["smallest_iou"] >= allowed.iou and row["rank"] >= allowed.rank
    )  # fmt: skip
    return "PASS" if passed else "FAIL"


def check(
    report: Report, device: torch.device, captions: int, steps: int, probes: int,
    spoil: Spoil | None = None,
) -> None:  # fmt: skip
    """Check both shipped models in every way; a CPU has no TF32 and is compared with itself.

    Args:
        report: Gets a row for each.
        device: What is checked.
        captions: Of a model, half of them memorized.
        steps: Of the sampling.
        probes: Products a map and branch.
        spoil: Changes what the device gave, to see the check fail.
    """
    for of in subjects(captions):
        spec = {"steps": steps, "guidance_scale": 2.5, "probes": probes, "localize": "all",
                "maps": ("delta_s", "delta_h"), "mask_share": SHARE}  # fmt: skip
        reference = numbers(of, ScanSpec(**spec), "cpu", 16)
        for way in WAYS:
            if way.tf32 and device.type != "cuda":
                continue
            with factors(tf32=way.tf32):
                own = numbers(of, ScanSpec(**spec, dtype=way.dtype), str(device), 3)
            row = compared(spoil(own) if spoil else own, reference, len(of.memorized))
            report.add("checks", {
                "model": of.name, "way": f"{way.name}, {device.type}", **row,
                "tolerance": str(way.tolerance), "verdict": verdict(row, way.tolerance),
                "captions": captions, "steps": steps, "products": probes,
            })  # fmt: skip
    if device.type != "cuda":
        report.note(
            f"TF32 exists on CUDA alone: {device.type} was compared with the CPU in float32"
        )


def allowed() -> Sequence[str]:
    """Return every way's tolerance in a line."""
    return [f"{way.name}: {way.tolerance}" for way in WAYS]
