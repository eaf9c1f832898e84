"""One step of a batch's trajectory, with the attention and features that methods look at."""

from collections.abc import Sequence
from contextlib import ExitStack

import torch
from torch import Tensor

from scanner.methods import Need, Step
from scanner.scan.evaluation_counter import with_attention, with_bottleneck
from scanner.scan.setting import TrajectorySetting
from scanner.scan.stages.branches import Branches, evaluated, guided_step
from scanner.scan.stages.draws import Draw
from scanner.scan.stages.first_step import FirstEvaluation, branches_of
from scanner.spec import ScanSpec


def take_step(
    setting: TrajectorySetting, draws: Sequence[Draw], spec: ScanSpec, step: int, x: Tensor,
    first: FirstEvaluation | None = None,
) -> Step:  # fmt: skip
    """Evaluate both branches and take one guided step.

    Args:
        setting: The levels and conditions.
        draws: The batch.
        spec: Guidance scale, and the methods that are asked for.
        step: Counted from 0.
        x: The latents before it, ``(B, C, H, W)``.
        first: Both branches of the first step, where they were evaluated before.

    Raises:
        TypeError: If attention or features are asked for and the model gives none.
    """
    if first is None:
        both, attention, features = _evaluated_and_recorded(setting, draws, spec, step, x)
    else:
        both, attention, features = branches_of(setting, first), None, []
    level, (own, null) = setting.level(step), both.scores.chunk(2)
    after = guided_step(setting, both, spec.guidance_scale, step, x)
    outputs = both.prediction.output if both.prediction and setting.schedule.flow else None
    bottleneck = None if not features else features[0][-len(x) :]
    return Step(step, level, x, own, null, after, outputs, attention, bottleneck)


def _evaluated_and_recorded(
    setting: TrajectorySetting, draws: Sequence[Draw], spec: ScanSpec, step: int, x: Tensor
) -> tuple[Branches, Tensor | None, list[Tensor]]:
    """Evaluate both branches, and keep the attention and features asked for at the last step."""
    denoiser, level, pair = setting.denoiser, setting.level(step), torch.cat([x, x])
    seen, is_last = list[Tensor](), step == len(setting.schedule.timesteps) - 1
    with ExitStack() as around:
        features = list[Tensor]()
        if is_last and spec.needs(Need.MIDDLE_BLOCK):
            features = around.enter_context(with_bottleneck(denoiser).bottleneck())
        if is_last and spec.needs(Need.CROSS_ATTENTION):
            watched = with_attention(denoiser)
            ends = watched.end_tokens([d.text for d in draws])
            seen = around.enter_context(watched.attention(ends))
        both = evaluated(setting, level, pair)
    return both, seen[0] if seen else None, features
