"""Detection by sampling: draw pictures of captions and take all scores on the way."""

from collections.abc import Sequence

import torch
from torch import Tensor

from scanner.methods import Step
from scanner.models.base import Denoiser
from scanner.numerics import maps
from scanner.numerics.schedule import guided
from scanner.scan.setting import observers
from scanner.scan.stages.detection import Detection, Maps
from scanner.scan.stages.draws import Draw, initial_latents, setting_of
from scanner.scan.stages.first_step import FirstEvaluation
from scanner.scan.stages.steps import take_step
from scanner.spec import ScanSpec


@torch.no_grad()
def detect(
    denoiser: Denoiser, draws: Sequence[Draw], spec: ScanSpec, first: FirstEvaluation | None = None
) -> Detection:
    """Sample every draw with classifier-free guidance and take all scores on the way.

    Two evaluations a step, at batch 2B: ``steps * 2`` evaluations a draw. Δs costs none of its
    own, because the last step needs both scores anyway; what a further detector costs is in its
    declaration (`scanner.methods`).

    Args:
        denoiser: The model.
        draws: The batch.
        spec: Steps, guidance scale, and the detectors and maps that are asked for.
        first: Of `scanner.scan.stages.first_step`, if it was taken; the first step costs nothing
            then.

    Raises:
        TypeError: If attention is asked for and the model gives none.
        ValueError: If the spec has no step.
    """
    setting = setting_of(denoiser, draws, spec)
    watching = observers(setting, spec.detectors)
    x = initial_latents(denoiser, draws)
    step = place = None
    for index in range(spec.steps):
        step = take_step(setting, draws, spec, index, x, first if index == 0 else None)
        place = step if index <= spec.steps - 1 - spec.map_back else place
        for observer in watching.values():
            observer.update(step)
        x = step.after
    if step is None or place is None:
        raise ValueError("a trajectory has at least one step")
    found: Maps = {}
    for observer in watching.values():
        found |= observer.maps()
    if step.attention is not None:
        found["bright_ending", "none"] = step.attention
    return Detection(
        place.x, x, maps.delta_s(place.conditional, place.unconditional),
        {name: observer.scores() for name, observer in watching.items()}, found,
        _scaled_clean_estimate(step, spec.guidance_scale) if spec.late else None,
        {name: path for name, one in watching.items() if (path := one.per_step()) is not None},
        place.conditional if spec.flag_baseline is not None else None,
    )  # fmt: skip


def _scaled_clean_estimate(step: Step, guidance_scale: float) -> Tensor:
    """Return ``alpha z`` for the clean latent z that the guided score points at (Tweedie)."""
    score = guided(step.conditional, step.unconditional, guidance_scale)
    return step.x + step.level[2] ** 2 * score
