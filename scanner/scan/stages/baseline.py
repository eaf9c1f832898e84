"""Δs against one baseline where every draw needs it: to flag by it."""

from collections.abc import Sequence

import torch
from torch import Tensor

from scanner.models.base import Denoiser
from scanner.numerics import maps
from scanner.scan.stages.detection import Detection
from scanner.scan.stages.draws import Draw, baseline_conditions, setting_of
from scanner.spec import ScanSpec


@torch.no_grad()
def delta_s_against(
    network: Denoiser, denoiser: Denoiser, draws: Sequence[Draw], detection: Detection,
    spec: ScanSpec,
) -> Tensor:  # fmt: skip
    """Return the map of Δs against a baseline under the caption, ``(B, H, W)``.

    One evaluation of the baseline a draw, at the detection's points.

    Args:
        network: The baseline.
        denoiser: The model.
        draws: The batch.
        detection: Of the same draws, with the model's scores under the captions.
        spec: Where Δs is taken.

    Raises:
        ValueError: If the detection has no such scores.
    """
    if detection.conditional is None:
        raise ValueError("a baseline is compared with the model's scores under the captions")
    setting = setting_of(denoiser, draws, spec)
    level, captions = setting.level(-1 - spec.map_back), setting.condition[: len(draws)]
    theirs = baseline_conditions(network, [draw.text for draw in draws], captions)
    score = network.score(detection.point, level, theirs)
    return maps.delta_s(detection.conditional, score)
