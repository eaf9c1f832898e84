"""Methods that a scan does not have, beside those that it has: should one of them come in?

    python benchmarks/candidates.py                                    # both shipped models
    python benchmarks/candidates.py --benchmark benchmark/dit-1        # measured before

*Slope*: how fast the noise difference still grows where the caption is whole. The states of the
caption are moved a share of the way to those of the empty caption; the change of the output over
the share is the slope, the directional derivative of the condition Jacobian at the prompt
(OpenReview pY2P28M9Iv) where the share is small. A further evaluation a step and share.

*Local*: the mean over steps of the squared noise difference at each position, averaged over a
window; the greatest window. A region that is a copy may stand out where the mean of all does not.
No further evaluation.

*Weights of the decoder*: a position of the latent counts by how much the picture depends on it,
estimated with products with the decoder's Jacobian, or by how far both branches' clean estimates
are apart once they are decoded.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from half_precision import subjects
from numpy.typing import NDArray
from planted import markdown
from torch import Tensor

from scanner import models
from scanner.analysis import overlap
from scanner.analysis.detection import RATES, ranking
from scanner.masks import mean_filtered
from scanner.methods import Step
from scanner.numerics import curvature, detectors, maps
from scanner.records import Caption
from scanner.scan.setting import TrajectorySetting
from scanner.scan.stages.draws import Draw, initial_latents, probes_of, setting_of
from scanner.scan.stages.steps import take_step
from scanner.spec import ScanSpec
from scanner.testbed.benchmark import detection, starting
from scanner.testbed.benchmark.recipe import FORMS

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

SHARES = (0.03, 0.1, 0.3)
PARTS = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Where slopes are taken: at the first step, a quarter on, and so forth to the last."""
WINDOW = 3
"""Side of the mean filter of the maps that are called smoothed."""
LOCAL = (3, 5, 9)
"""Sides of the windows of local scores."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A model, captions that it knows by heart, and sets of clean ones.

    Attributes:
        name: For a person.
        folder: The pipeline.
        captions: All of them.
        positive: Which are known by heart, ``(n,)``.
        clean: Sets of the others by name, ``(n,)`` each.
        masks: Repeated regions by caption, of those whose maps are measured.
        templates: Captions whose region is a part of the picture.
    """

    name: str
    folder: Path
    captions: list[str]
    positive: Bools
    clean: dict[str, Bools]
    masks: Mapping[str, Bools]
    templates: frozenset[str]

    @property
    def kinds(self) -> dict[str, Bools]:
        """Return which captions are known by heart, by what comes back."""
        parts = np.array([caption in self.templates for caption in self.captions])
        kinds = {"verbatim": self.positive & ~parts, "template": self.positive & parts}
        return {name: members for name, members in kinds.items() if members.any()}


def shipped(number: int, memorized: int) -> list[Subject]:
    """Return the shipped models."""
    found = list[Subject]()
    for one in subjects(number, memorized):
        items = [*one.memorized, *one.clean]
        kinds = np.array([item.kind for item in items])
        positive = np.array([item.memorized for item in items])
        clean = {
            "all": ~positive,
            "traps": kinds == "trap",
            "others": ~positive & (kinds != "trap"),
        }
        found.append(
            Subject(
                one.name,
                one.folder,
                [item.caption for item in items],
                positive,
                clean,
                {item.caption: item.mask for item in one.memorized},
                frozenset(item.caption for item in one.memorized if item.kind == "template"),
            )
        )
    return found


def of_benchmark(folder: Path, most: int) -> Subject:
    """Return a model of the benchmark that was measured; at most so many fresh captions."""
    own = sorted((folder / "measured").glob("step-*"))[-1]
    told = detection.read(pq.read_table(own / "scores.parquet"))
    family, _, replicate = folder.name.rpartition("-")
    items = starting.assignment(FORMS["short"](family, int(replicate))).items
    fresh = np.flatnonzero((told.about["split"] == "evaluation") & ~told.given_back)
    fresh = np.random.default_rng(0).permutation(fresh)[:most]
    kept = np.concatenate([np.flatnonzero(told.given_back), fresh])
    captions = told.about["caption"][kept].astype(str).tolist()
    masks = {caption: item.mask for item in items for caption in item.captions}
    positive = told.given_back[kept]
    clean = {name: members[kept] for name, members in detection.opponents(told).items()}
    by_heart = [c for c, known in zip(captions, positive, strict=True) if known]
    return Subject(
        folder.name, folder / own.name, captions, positive, clean,
        {c: masks[c] for c in by_heart},
        frozenset(c for c in by_heart if not masks[c].all()),
    )  # fmt: skip


def output_of(setting: TrajectorySetting, step: Step, condition: Tensor) -> Tensor:
    """Return noise under a condition, of a flow the output: what `Step.difference` compares."""
    found = setting.denoiser.predict(step.x, step.level, condition)
    if setting.schedule.flow:
        return found.output
    return found.score(step.x, *step.level[1:]) * -step.level[2]


def slopes(setting: TrajectorySetting, step: Step) -> dict[str, Tensor]:
    """Return the slope of every share at a step, ``(B,)`` each."""
    own, empty = setting.condition.chunk(2)
    here = step.conditional * -step.level[2] if step.outputs is None else step.outputs.chunk(2)[0]
    return {
        f"{share:g}": detectors.norm(here - output_of(setting, step, own.lerp(empty, share)))
        / share
        for share in SHARES
    }


def local(squares: Tensor) -> dict[str, Tensor]:
    """Return the root of the greatest window, ``(B,)`` by name, of squares at positions."""
    found = dict[str, Tensor]()
    for side in LOCAL:
        means = torch.nn.functional.avg_pool2d(squares[:, None], side, stride=1)
        found[f"local, {side} x {side}"] = means.flatten(1).amax(dim=1).sqrt()
    return found


def decoded(autoencoder: Any, latents: Tensor) -> Tensor:
    """Return pixels of latents, ``(B, 3, H, W)``, differentiable."""
    raw = latents / autoencoder.scale + autoencoder.shift
    return autoencoder.module.decode(raw, return_dict=False)[0]


def decoder_weights(autoencoder: Any, latents: Tensor, probes: int = 4) -> Tensor:
    """Return the decoder's squared sensitivity to each coordinate, ``(B, C, h, w)``.

    The diagonal of ``J^T J``, from products of random signs with ``J``.
    """
    leaf = latents.detach().requires_grad_()
    with torch.enable_grad():
        picture = decoded(autoencoder, leaf)
    rng, total = torch.Generator().manual_seed(0), torch.zeros_like(latents)
    for number in range(probes):
        signs = torch.randint(0, 2, picture.shape, generator=rng) * 2.0 - 1
        (product,) = torch.autograd.grad(picture, leaf, signs, retain_graph=number < probes - 1)
        total += product.square()
    return total / probes


def maps_of(setting: TrajectorySetting, step: Step, draws: Sequence[Draw], spec: ScanSpec,
            autoencoder: Any) -> dict[str, Tensor]:  # fmt: skip
    """Return maps at the last step, with and without the decoder's weights, ``(B, h, w)`` each."""
    score, null = step.conditional, step.unconditional
    _, alpha, sigma = step.level
    estimates = [(step.x + sigma**2 * s) / alpha for s in (score, null)]
    weights = decoder_weights(autoencoder, estimates[0])
    probes = probes_of(setting.denoiser, draws, spec)
    pair = torch.cat([step.x, step.x])
    both = curvature.jacobian_diagonal(
        setting.scores(step.level), pair, torch.cat([probes, probes], dim=1)
    )
    diagonal, base = both.float().chunk(2)
    pixels = [decoded(autoencoder, z) for z in estimates]
    places = weights.sum(dim=1)
    return {
        "`delta_s`": maps.delta_s(score, null),
        "`delta_s`, weighted by channel": (weights * (score - null).square()).sum(dim=1),
        "`delta_s`, weighted by position": places * maps.delta_s(score, null),
        "decoded difference": (pixels[0] - pixels[1]).square().sum(dim=1),
        "`delta_h`": maps.delta_h(diagonal, base),
        "`delta_h`, weighted by channel": (weights * (base - diagonal)).sum(dim=1),
        "`delta_h`, weighted by position": places * maps.delta_h(diagonal, base),
    }


@torch.no_grad()
def measure(subject: Subject, spec: ScanSpec, batch: int) -> tuple[dict[str, Floats], Any]:
    """Return scores of all captions by name, and maps by name and caption."""
    denoiser: Any = models.load(str(subject.folder))
    at = sorted({round(part * (spec.steps - 1)) for part in PARTS})
    scores, found = dict[str, list[float]](), dict[str, dict[str, Floats]]()
    for start in range(0, len(subject.captions), batch):
        texts = subject.captions[start : start + batch]
        draws = [Draw(t, Caption("made", str(n), t).identity, 0) for n, t in enumerate(texts)]
        setting, x = setting_of(denoiser, draws, spec), initial_latents(denoiser, draws)
        differences, squares, step = list[Tensor](), list[Tensor](), None
        for index in range(spec.steps):
            step = take_step(setting, draws, spec, index, x)
            x = step.after
            differences.append(detectors.norm(step.difference))
            squares.append(step.difference.square().sum(dim=1))
            if index in at:
                told = {f"slope {s} at step {index}": v for s, v in slopes(setting, step).items()}
                told[f"difference at step {index}"] = differences[-1]
                for name, values in told.items():
                    scores.setdefault(name, []).extend(values.tolist())
        assert step is not None
        whole = torch.stack(differences)
        delta_s = maps.delta_s(step.conditional, step.unconditional).mean(dim=(1, 2))
        for name, values in {
            "`wen`": whole.mean(0), "`wen_5`": whole[:5].mean(0), "`delta_s`": delta_s,
            **local(torch.stack(squares).mean(dim=0)),
        }.items():  # fmt: skip
            scores.setdefault(name, []).extend(values.tolist())
        if any(text in subject.masks for text in texts):
            kept = [n for n, text in enumerate(texts) if text in subject.masks]
            made = maps_of(setting, step, draws, spec, denoiser.autoencoder)
            for name, values in made.items():
                own = found.setdefault(name, {})
                own.update({texts[n]: values[n].double().numpy() for n in kept})
        print(f"{subject.name}: {start + len(texts)} of {len(subject.captions)}", file=sys.stderr)
    return {name: np.array(values) for name, values in scores.items()}, found


def detection_rows(subject: Subject, scores: Mapping[str, Floats]) -> list[list[str]]:
    """Return AUC and TPR at 1% of every score, for each kind of copy, against every clean set."""
    rows = list[list[str]]()
    for name, values in scores.items():
        row = [subject.name, name]
        for positive in subject.kinds.values():
            for clean in subject.clean.values():
                members = positive | clean
                found = ranking(
                    values[members], positive[members], np.ones((1, int(members.sum())))
                )
                row.append(f"{found.auc[0]:.3f}, {found.tpr[next(iter(RATES))][0]:.3f}")
        rows.append(row)
    return rows


def map_rows(subject: Subject, found: Mapping[str, Mapping[str, Floats]]) -> list[list[str]]:
    """Return the best pooled IoU of every map, on templates and on all, plain and smoothed."""
    rows = list[list[str]]()
    for name, by_caption in found.items():
        row = [subject.name, name]
        for captions in (subject.templates, frozenset(by_caption)):
            chosen = sorted(captions & set(by_caption))
            for window in (1, WINDOW):
                swept = overlap.sweep(
                    [by_caption[c] for c in chosen], [subject.masks[c] for c in chosen],
                    partial(mean_filtered, side=window),
                )  # fmt: skip
                row.append(f"{swept.best().iou:.3f}")
        rows.append(row)
    return rows


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--benchmark", type=Path, nargs="*", help="folders of measured models")
    parser.add_argument("--captions", type=int, default=20, help="clean ones of each kind")
    parser.add_argument("--memorized", type=int, default=56)
    parser.add_argument("--fresh", type=int, default=600, help="of a model of the benchmark")
    parser.add_argument("--batch", type=int, default=16)
    asked = parser.parse_args()
    spec = ScanSpec(steps=20, guidance_scale=2.5, probes=4)
    chosen = (
        [of_benchmark(folder, asked.fresh) for folder in asked.benchmark]
        if asked.benchmark
        else shipped(asked.captions, asked.memorized)
    )
    for subject in chosen:
        scores, found = measure(subject, spec, asked.batch)
        sets = [
            f"{kind} ({known.sum()}), {name} ({members.sum()})"
            for kind, known in subject.kinds.items()
            for name, members in subject.clean.items()
        ]
        print("\nAUC, TPR at 1%\n")
        print("\n".join(markdown(["model", "score", *sets], detection_rows(subject, scores))))
        heads = ["IoU, templates", "smoothed", "IoU, all", "smoothed"]
        print(f"\n{len(subject.templates)} templates\n")
        print("\n".join(markdown(["model", "map", *heads], map_rows(subject, found))))


if __name__ == "__main__":
    main()
