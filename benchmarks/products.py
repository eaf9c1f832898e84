"""How far maps are off after so many products, and whether what they say of it holds.

Captions of the planted corpora at the step where a scan takes their maps. The Jacobians of both
branches are taken exactly, an entry at a time, and kept in OUT; then estimates are made of them by
the scan's own code, again and again with other probes, at the cost of a matrix product::

    python benchmarks/products.py --out products
    python benchmarks/products.py --out products --model dit --repeats 20

Errors are relative: root mean square over that of the exact map. ``within`` is the share of maps
whose true error is within the target, ``two errors`` the share of pixels that are within two
standard errors of the exact map, of the map as it is and under the mask's filter. Masks are those
of a floor of 0 and a share of 0.3; ``wrong`` is the share of pixels that lie on another side than
the exact map's, ``doubted`` how many of these the row calls in doubt, ``in doubt`` the share of
all pixels that it calls so.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from scanner import masks, models
from scanner.numerics import maps, noise, portions
from scanner.numerics.curvature import Pullback
from scanner.records import caption_hash
from scanner.scan.stages.draws import Draw, ProbePortion, setting_of
from scanner.scan.stages.rounds import both_branches
from scanner.scan.stages.sampling import detect
from scanner.spec import ScanSpec
from scanner.statistics.calibration import MASK_SHARE
from scanner.testbed import make

WEIGHTS = Path(__file__).parents[1] / "scanner" / "testbed" / "weights"
SEEDS = {"pipeline": 1, "dit": 6}
"""Corpus of each model's planted captions."""
BACK = {"pipeline": 0, "dit": 3}
"""How many steps before the last its maps are taken."""
TARGETS = (0.2, 0.1, 0.05, 0.02)
MOST = 168
HEADS = (
    "ways", "products", "true error", "said error", "within", "two errors", "two errors, filtered",
    "wrong", "doubted", "in doubt",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Way:
    """How many products are taken.

    Attributes:
        title: What the table calls it.
        number: How many, or the most.
        target: Of the relative error; null takes all.
        design: Of the probes.
    """

    title: str
    number: int
    target: float | None = None
    design: str = "structured"


WAYS = (
    *(Way(f"{n} fixed", n) for n in (4, 8, 16, 32, 64)),
    *(Way(f"{n} fixed, rademacher", n, design="rademacher") for n in (16, 64)),
    *(Way(f"target {t}", MOST, t) for t in TARGETS),
    Way("target 0.1, rademacher", MOST, 0.1, "rademacher"),
)


@dataclass(frozen=True, slots=True)
class Exact:
    """Captions of a group, and their Jacobians.

    Attributes:
        captions: As they are scanned.
        jacobians: Of both branches' scores, ``(2, B, D, D)``, row by output.
        shape: Of a latent.
    """

    captions: list[str]
    jacobians: Tensor
    shape: tuple[int, int, int]

    @property
    def map(self) -> Tensor:
        """Exact Δh, ``(B, H, W)``."""
        own, null = self.jacobians.diagonal(dim1=2, dim2=3).unflatten(2, self.shape)
        return maps.delta_h(own, null)

    def graph_of(self, draws: Tensor) -> Pullback:
        """Return the linear functions with these Jacobians, evaluated."""
        matrices = self.jacobians[:, draws].flatten(0, 1)

        def function(pair: Tensor) -> Tensor:
            return (matrices @ pair.flatten(1)[..., None])[..., 0].reshape(pair.shape)

        return Pullback(function, torch.zeros(len(matrices), *self.shape))


def jacobians(name: str, captions: Sequence[str]) -> tuple[Tensor, tuple[int, int, int]]:
    """Return the exact Jacobians of both branches at the point where maps are taken."""
    model = models.load(str(WEIGHTS / name))
    spec = ScanSpec(steps=20, guidance_scale=2.5, map_back=BACK[name], localize="all")
    draws = [Draw(text, caption_hash(text), 0) for text in captions]
    point = detect(model, draws, spec).point
    setting = setting_of(model, draws, spec)
    leaf = torch.cat([point, point]).requires_grad_()
    output = setting.scores(setting.level(-1 - spec.map_back))(leaf).flatten(1)
    rows = [
        torch.autograd.grad(output[:, i].sum(), leaf, retain_graph=True)[0].flatten(1)
        for i in range(output.shape[1])
    ]
    return torch.stack(rows, dim=1).unflatten(0, (2, -1)), model.latent_shape


def groups(name: str, out: Path) -> dict[str, Exact]:
    """Return memorized captions and another, with Jacobians that are taken once."""
    items = make.evaluation_items(SEEDS[name], 20)
    chosen = [
        item.caption
        for kind in ("template", "verbatim") for item in [i for i in items if i.kind == kind][:2]
    ]  # fmt: skip
    chosen.append(next(item.caption for item in items if not item.memorized))
    file = out / f"{name}.pt"
    if not file.exists():
        torch.save(jacobians(name, chosen), file)
    found, shape = torch.load(file)
    return {
        "4 memorized captions": Exact(chosen[:4], found[:, :4], shape),
        "1 other caption": Exact(chosen[4:], found[:, 4:], shape),
    }


def cells(exact: Exact, way: Way, repeats: int) -> list[float]:
    """Return a way's row, averaged over captions and keys of probes."""
    plan = portions.portions_of(
        exact.shape[0], way.number, way.design, adaptive=way.target is not None
    )  # fmt: skip
    rows: list[list[float]] = []
    for repeat in range(repeats):
        own = [
            noise.in_portions(caption_hash(text), repeat, exact.shape, plan)
            for text in exact.captions
        ]
        asked = [
            ProbePortion(torch.stack(vectors, dim=2), portion.is_new)
            for portion, *vectors in zip(plan, *own, strict=True)
        ]
        found = both_branches(exact.graph_of, asked, way.target)
        (mine, null), (mean, other) = found.traces.unbind(dim=1), found.diagonals
        errors = maps.standard_error(null - mine, found.taken)
        for draw, values in enumerate(maps.delta_h(mean, other)):
            said = errors[draw] if found.taken[draw] > 1 else None
            rows.append(
                [
                    float(found.products[draw]),
                    *compared(exact.map[draw], values, said, way.target),
                ]
            )
    return np.nanmean(np.array(rows), axis=0).tolist()


def compared(
    exact: Tensor, values: Tensor, errors: Tensor | None, target: float | None
) -> list[float]:
    """Return the errors of one map, and how well they are known; nan of what there is not."""
    truth, own, nan = exact.double().numpy(), values.double().numpy(), float("nan")
    off = masks.relative_error(truth, own - truth) or 0.0
    within = nan if target is None else float(off <= target)
    threshold, mask = masks.region(own, 0.0, MASK_SHARE)
    _, right = masks.region(truth, 0.0, MASK_SHARE)
    wrong = mask != right
    if errors is None:
        return [off, nan, within, nan, nan, float(wrong.mean()), nan, nan]
    error = errors.double().numpy()
    doubt = masks.doubtful(own, error, threshold, MASK_SHARE)
    return [
        off, masks.relative_error(own, error) or 0.0, within,
        # A pixel is within two errors of the truth where the truth as a threshold is in doubt.
        float(near(own, error, truth, 0).mean()),
        float(near(own, error, truth, MASK_SHARE).mean()),
        float(wrong.mean()), float(doubt[wrong].mean()) if wrong.any() else nan,
        float(doubt.mean()),
    ]  # fmt: skip


def near(
    values: NDArray[np.float64], errors: NDArray[np.float64], truth: NDArray[np.float64],
    share: float,
) -> NDArray[np.bool_]:  # fmt: skip
    """Return the pixels that are within two standard errors of the exact map."""
    return masks.doubtful(values - truth, errors, 0.0, share)


def main() -> None:
    """Take the Jacobians, estimate, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", choices=sorted(SEEDS), default="pipeline")
    parser.add_argument("--repeats", type=int, default=4)
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    for title, exact in groups(asked.model, asked.out).items():
        size = exact.map.square().mean(dim=(1, 2)).sqrt()
        print(f"\n{asked.model}, {title}, Δh of size {', '.join(f'{s:.3g}' for s in size)}\n")
        print(f"| {' | '.join(HEADS)} |\n|{' --- |' * len(HEADS)}")
        for way in WAYS:
            row = cells(exact, way, asked.repeats)
            shown = ["" if np.isnan(value) else f"{value:.3g}" for value in row]
            print(f"| {way.title} | {' | '.join(shown)} |")


if __name__ == "__main__":
    main()
