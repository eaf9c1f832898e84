"""Which score should flag? Each one's own null scores, on models that it was not chosen on.

Of each model, the calibration split gives null scores of every score that all captions have, and
the evaluation split is flagged by each at several nominal rates, as ``scan --flag-by`` does. A row
says how many of the planted captions are found, and how many of the others are flagged, by kind::

    memscan testbed train --family dit --out dit
    python benchmarks/flag_scores.py --out out --dit dit

Without --dit the shipped U-Net and the shipped LoRA are measured. Writes ``flag_scores.md`` and
``.json`` into --out.
"""

import json
from argparse import ArgumentParser, Namespace, RawTextHelpFormatter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from planted import Sample, Scanned, markdown, own, scanned, shortened

from scanner import models
from scanner.methods import Need, registry
from scanner.methods.declaration import OF_NETWORK
from scanner.models.base import Denoiser
from scanner.models.overlay import Lora, Overlay
from scanner.spec import ScanSpec
from scanner.statistics.calibration import Calibration
from scanner.testbed import SHIPPED_SEED, WEIGHTS, corpus, dit, lora, make

RATES = (0.05, 0.01)
KINDS = ("name", "art", "scene", "texture", "trap")


@dataclass(frozen=True, slots=True)
class Subject:
    """A model, and the corpus that it knows."""

    name: str
    model: Denoiser
    baselines: Mapping[str, Denoiser]
    seed: int
    planted: list[corpus.Item]


def subjects(asked: Namespace) -> list[Subject]:
    """Return the models to measure."""
    pipeline = str(WEIGHTS / "pipeline")
    unet = models.load(pipeline)
    early = {"early": models.load_baseline(str(WEIGHTS / "early"), unet)}
    known = corpus.planted(SHIPPED_SEED)
    found = [Subject("U-Net", unet, early, SHIPPED_SEED, known)]
    over = Overlay((Lora(str(WEIGHTS / "lora" / lora.FILE)),))
    adapted = models.load(pipeline, overlay=over)
    off = {"off": models.load_baseline("off", adapted)}
    found.append(Subject("LoRA", adapted, off, lora.SEED, corpus.half(lora.SEED)))
    if asked.dit is not None:
        flow = models.load(str(asked.dit / "pipeline"))
        early = {"early": models.load_baseline(str(asked.dit / "early"), flow)}
        shortened(flow, *early.values())
        found.append(Subject("transformer", flow, early, asked.seed, corpus.half(asked.seed)))
    return found


def spec_of(model: Denoiser, baseline: str) -> ScanSpec:
    """Return the settings of a scan with every score of detection that a model has, and no map."""
    missing = (OF_NETWORK - model.has) | {Need.LOCALIZATION, Need.IMAGE}
    return ScanSpec(
        seeds=(0,), steps=20, guidance_scale=2.5, localize="none", store_image=False,
        detectors=tuple(n for n, one in registry.DETECTORS.items() if not one.needs & missing),
        flag_by=f"delta_s_{baseline}",
    )  # fmt: skip


def split(subject: Subject, asked: Namespace, name: str) -> tuple[list[Sample], Scanned]:
    """Scan one split of a subject's corpus."""
    choose = make.calibration_items if name == "calibration" else make.evaluation_items
    of = own(subject.seed, choose(subject.seed, asked.negatives, subject.planted))
    spec = spec_of(subject.model, next(iter(subject.baselines)))
    return of, scanned(subject.model, spec, of, baselines=subject.baselines)


def flagged(nulls: np.ndarray, scores: np.ndarray, rate: float) -> np.ndarray:
    """Return which scores a calibration on these nulls flags at a rate."""
    null = Calibration("", "", tuple(sorted(nulls.tolist())), {}, 0.01, len(nulls), "")
    return np.array([null.p_value(score) <= rate for score in scores.tolist()])


def measured(subject: Subject, asked: Namespace) -> dict[str, Any]:
    """Return, by score and rate, the share flagged of each kind of caption."""
    _, null = split(subject, asked, "calibration")
    of, found = split(subject, asked, "evaluation")
    kinds = np.array([sample.item.kind for sample in of])
    memorized = np.array([sample.item.memorized for sample in of])
    rows: dict[str, Any] = {}
    for name, scores in found.scores.items():
        sign = registry.sign(name)
        rows[name] = {}
        for rate in RATES:
            hit = flagged(sign * null.scores[name], sign * scores, rate)
            shares = {kind: float(hit[kinds == kind].mean()) for kind in KINDS}
            rows[name][str(rate)] = {
                "planted": float(hit[memorized].mean()),
                "verbatim": float(hit[kinds == "verbatim"].mean()),
                "template": float(hit[kinds == "template"].mean()),
                "others": float(hit[~memorized].mean()), **shares,
            }  # fmt: skip
    return {
        "nulls": len(null.keys), "planted": int(memorized.sum()),
        "others": int((~memorized).sum()), "scores": rows,
    }  # fmt: skip


def table(facts: Mapping[str, Any], rate: float) -> list[str]:
    """Return the lines of a table: a row a score, the planted found and others flagged by model."""
    names = list(facts)
    scores = list(dict.fromkeys(score for own in facts.values() for score in own["scores"]))
    heads = ["score", *(f"{name}: found" for name in names), *(f"{name}: false" for name in names)]

    def cell(name: str, score: str, of: str) -> str:
        row = facts[name]["scores"].get(score)
        return "" if row is None else f"{row[str(rate)][of]:.3f}"

    def least(score: str) -> float:
        rows = [own["scores"][score][str(rate)] for own in facts.values() if score in own["scores"]]
        return min(row["planted"] for row in rows)

    return markdown(
        heads,
        [
            [f"`{s}`", *(cell(n, s, of) for of in ("planted", "others") for n in names)]
            for s in sorted(scores, key=lambda s: -least(s))
        ],
    )  # fmt: skip


def main() -> None:
    """Measure, print and write."""
    parser = ArgumentParser(description=__doc__, formatter_class=RawTextHelpFormatter)
    parser.add_argument("--dit", type=Path, help="what testbed train --family dit left")
    parser.add_argument("--seed", type=int, default=dit.SEED, help="its corpus seed")
    parser.add_argument("--negatives", type=int, default=400, help="fresh negatives a split")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads")
    parser.add_argument("--out", type=Path, required=True, help="folder for what was measured")
    asked = parser.parse_args()
    if asked.threads:
        torch.set_num_threads(asked.threads)
    facts: dict[str, Any] = {}
    for subject in subjects(asked):
        facts[subject.name] = measured(subject, asked)
        asked.out.mkdir(parents=True, exist_ok=True)
        (asked.out / "flag_scores.json").write_text(json.dumps(facts, indent=1))
        print(
            subject.name,
            {k: v for k, v in facts[subject.name].items() if k != "scores"},
            flush=True,
        )
    parts = [[f"Nominal rate {rate:g}", "", *table(facts, rate)] for rate in RATES]
    content = "\n\n".join("\n".join(part) for part in parts) + "\n"
    print(content)
    (asked.out / "flag_scores.md").write_text(content)


if __name__ == "__main__":
    main()
