"""How far a caption's numbers move with the batch that it is in, and with the network's precision.

Samples a few captions in float32 at several batch sizes, and in half precision, and compares every
caption with float32 at the first batch size::

    python benchmarks/precision.py                                    # the shipped testbed
    python benchmarks/precision.py --model FOLDER --captions 12       # and of another pipeline

Half of the captions are planted in the shipped corpus, so memorized by the shipped model; another
model has seen none of them. Changes of a score are relative to the score, changes of a map are the
Euclidean norm of the difference, relative to the map's. Printed are the median and the largest over
captions. Half precision on a CPU is slow: a dozen captions take minutes.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from planted import Table

from scanner import models
from scanner.models.base import Denoiser
from scanner.records import caption_hash
from scanner.scan.stages.draws import Draw
from scanner.scan.stages.localization import localize
from scanner.scan.stages.sampling import detect
from scanner.spec import ScanSpec
from scanner.testbed import SHIPPED_SEED, WEIGHTS, make

METRICS = ("delta_s", "delta_h", "curvature")
HALVES = ("bfloat16", "float16")


@dataclass(frozen=True, slots=True)
class Way:
    """One way to compute the same numbers."""

    dtype: str
    batch: int

    def __str__(self) -> str:
        return f"{self.dtype}, batch {self.batch}"


def captions(number: int) -> tuple[list[str], NDArray[np.bool_]]:
    """Return captions of the shipped corpus, and which of them are planted."""
    items = make.evaluation_items(SHIPPED_SEED, number)
    planted = [item.caption for item in items if item.memorized][: number // 2]
    clean = [item.caption for item in items if not item.memorized][: number - len(planted)]
    return planted + clean, np.arange(number) < len(planted)


def maps_of(
    denoiser: Denoiser, texts: Sequence[str], spec: ScanSpec, batch: int
) -> dict[str, NDArray[np.float64]]:
    """Return every caption's maps by metric, ``(captions, H, W)``."""
    parts: dict[str, list[NDArray[np.float64]]] = {}
    for start in range(0, len(texts), batch):
        draws = [Draw(text, caption_hash(text), 0) for text in texts[start : start + batch]]
        seen = detect(denoiser, draws, spec)
        found = {("delta_s", "null"): seen.delta_s} | localize(denoiser, {}, draws, seen, spec).maps
        for (metric, _), values in found.items():
            parts.setdefault(metric, []).append(values.double().cpu().numpy())
    return {metric: np.concatenate(values) for metric, values in parts.items()}


def changes(
    own: dict[str, NDArray[np.float64]], reference: dict[str, NDArray[np.float64]]
) -> dict[str, NDArray[np.float64]]:
    """Return the relative changes of the score Δs, of mean Δh and of the maps, by caption."""
    found = {}
    for name, metric in (("score Δs", "delta_s"), ("mean Δh", "delta_h")):
        scores, before = (maps[metric].mean(axis=(1, 2)) for maps in (own, reference))
        found[name] = np.abs(scores / before - 1)
    for metric in METRICS:
        difference = np.linalg.norm(own[metric] - reference[metric], axis=(1, 2))
        found[f"map {metric}"] = difference / np.linalg.norm(reference[metric], axis=(1, 2))
    return found


def table(source: str, device: str, asked: argparse.Namespace, ways: Sequence[Way]) -> Table:
    """Return the changes of a model's numbers, a row a way and group of captions."""
    texts, planted = captions(asked.captions)
    spec = ScanSpec(
        steps=asked.steps, guidance_scale=asked.guidance_scale, probes=asked.probes, localize="all",
        maps=METRICS,
    )  # fmt: skip
    is_shipped = source == str(WEIGHTS / "pipeline")
    groups = {"memorized": planted, "clean": ~planted} if is_shipped else {"all": planted | True}
    reference, rows, head = None, [], list[str]()
    for way in ways:
        denoiser = models.load(source, device=device, dtype=way.dtype)
        found = maps_of(denoiser, texts, spec, way.batch)
        if reference is None:
            reference = found
            continue
        apart = changes(found, reference)
        head = list(apart)
        for name, group in groups.items():
            cells = [f"{np.median(v[group]):.1e}, {v[group].max():.1e}" for v in apart.values()]
            rows.append([f"{way}: {name} (n = {group.sum()})", *cells])
    return Table([f"{source} beside {ways[0]}: median, largest", *head], rows)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default=str(WEIGHTS / "pipeline"))
    parser.add_argument("--captions", type=int, default=16)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--guidance-scale", type=float, default=2.5)
    parser.add_argument("--probes", type=int, default=4)
    parser.add_argument("--batches", default="1,3,16", help="the first is compared with")
    parser.add_argument("--halves", default=",".join(HALVES), help="'' for none")
    parser.add_argument("--device", default="cpu")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    batches = [int(size) for size in asked.batches.split(",")]
    ways = [Way("float32", size) for size in batches]
    ways += [Way(dtype, batches[0]) for dtype in asked.halves.split(",") if dtype]
    print(table(asked.model, asked.device, asked, ways).markdown())


if __name__ == "__main__":
    main()
