"""The first step of sampling alone, which a screen looks at."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from scanner.models.base import Denoiser
from scanner.numerics import detectors
from scanner.numerics.schedule import Prediction
from scanner.scan.setting import TrajectorySetting
from scanner.scan.stages.branches import Branches
from scanner.scan.stages.draws import Draw, initial_latents, setting_of
from scanner.spec import ScanSpec


@dataclass(frozen=True, slots=True)
class FirstEvaluation:
    """The first step of a batch of trajectories.

    Attributes:
        conditional: Scores of pure noise under the captions, ``(B, C, H, W)``; a flow's outputs.
        unconditional: Without a caption.
        norm: ``||e_c - e_u||``, ``(B,)``; of a flow ``||o_c - o_u||``.
    """

    conditional: Tensor
    unconditional: Tensor
    norm: Tensor


@torch.no_grad()
def first_step(denoiser: Denoiser, draws: Sequence[Draw], spec: ScanSpec) -> FirstEvaluation:
    """Evaluate the first step alone: two evaluations a draw, which `detect` need not repeat."""
    setting, x = setting_of(denoiser, draws, spec), initial_latents(denoiser, draws)
    level = setting.level(0)
    conditional, unconditional = setting.compared(level)(torch.cat([x, x])).chunk(2)
    if setting.schedule.flow:
        return FirstEvaluation(
            conditional, unconditional, detectors.norm(conditional - unconditional)
        )
    norm = detectors.norm(detectors.noise_difference(conditional, unconditional, level[2]))
    return FirstEvaluation(conditional, unconditional, norm)


def branches_of(setting: TrajectorySetting, first: FirstEvaluation) -> Branches:
    """Return the first step as `scanner.scan.stages.branches.evaluated` gives a step."""
    pair, flow = torch.cat([first.conditional, first.unconditional]), setting.schedule.flow
    if not flow:
        return Branches(pair)
    # At a flow's first level there is only noise, and its score does not depend on the output.
    return Branches(pair.new_zeros(()).expand_as(pair), Prediction(pair, flow, -flow))
