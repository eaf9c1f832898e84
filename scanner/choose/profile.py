"""Maps at many steps of one trajectory: what a choice of step and baseline is made from."""

from collections.abc import Collection, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor

from scanner.models.base import Denoiser, Level
from scanner.numerics import maps
from scanner.scan.setting import TrajectorySetting
from scanner.scan.stages.branches import (
    Branches,
    evaluated,
    guided_step,
    score_and_diagonal,
)
from scanner.scan.stages.draws import (
    Draw,
    baseline_conditions,
    initial_latents,
    probes_of,
    setting_of,
)
from scanner.spec import ScanSpec

Profile = dict[tuple[str, str, int], Tensor]
"""``(B, H, W)`` float32 on the CPU, by metric, baseline and step; units as in a scan's masks."""


def profile(
    denoiser: Denoiser, baselines: Mapping[str, Denoiser], draws: Sequence[Draw], spec: ScanSpec,
    steps: Collection[int],
) -> Profile:  # fmt: skip
    """Sample draws as a scan does and take Δs and Δh at several steps on the way.

    Against the unconditional branch and each of the baselines, from the same probes. At a measured
    step ``2 + K`` times 2 evaluations (K products come back) and, a baseline, ``1 + K`` of its own;
    at every other step 2.

    Args:
        denoiser: The model.
        baselines: Less-trained networks by name.
        draws: The batch.
        spec: Steps, guidance scale, probes and their design.
        steps: Where maps are taken, counted from 0, the noisiest; not where alpha is 0.
    """
    setting, vectors = setting_of(denoiser, draws, spec), probes_of(denoiser, draws, spec)
    x, found = initial_latents(denoiser, draws), Profile()
    captions, texts = setting.condition[: len(draws)], [draw.text for draw in draws]
    own_words = {n: baseline_conditions(b, texts, captions) for n, b in baselines.items()}
    for step in range(spec.steps):
        level, pair = setting.level(step), torch.cat([x, x])
        if step in steps and level[1] > 0:  # where alpha is 0, both scores are -x: no map to take
            both, diagonals = _measured(setting, level, pair, torch.cat([vectors, vectors], dim=1))
            (own, null), (diagonal, other) = both.scores.chunk(2), diagonals.chunk(2)
            found["delta_s", "null", step] = maps.delta_s(own, null).cpu()
            found["delta_h", "null", step] = maps.delta_h(diagonal, other).cpu()
            for name, network in baselines.items():
                score, early = score_and_diagonal(
                    partial(network.score, level=level, condition=own_words[name]), x, vectors
                )
                found["delta_s", name, step] = maps.delta_s(own, score).cpu()
                found["delta_h", name, step] = maps.delta_h(diagonal, early).cpu()
        else:
            with torch.no_grad():
                both = evaluated(setting, level, pair)
        x = guided_step(setting, both, spec.guidance_scale, step, x)
    return found


def _measured(
    setting: TrajectorySetting, level: Level, pair: Tensor, vectors: Tensor
) -> tuple[Branches, Tensor]:
    """Evaluate both branches once, and return the diagonals of their Jacobians beside them."""
    kept: list[Branches] = []

    def scores(points: Tensor) -> Tensor:
        kept.append(evaluated(setting, level, points))
        return kept[0].scores

    _, diagonals = score_and_diagonal(scores, pair, vectors)
    return kept[0].detached(), diagonals
