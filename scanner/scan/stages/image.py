"""Detection at images: noise training images to one level and take all scores there."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from scanner import masks
from scanner.models.base import Denoiser
from scanner.numerics import maps, snapback
from scanner.scan.setting import TrajectorySetting, observers
from scanner.scan.stages.detection import Detection, Maps
from scanner.scan.stages.draws import Draw, initial_latents, setting_of
from scanner.scan.stages.steps import take_step
from scanner.spec import ScanSpec


@torch.no_grad()
def detect_image(
    denoiser: Denoiser, draws: Sequence[Draw], pictures: dict[str, Tensor], spec: ScanSpec,
    baselines: Mapping[str, Denoiser],
) -> Detection:  # fmt: skip
    """Noise the draws' own images and take all scores there.

    An image is encoded once, alone: an autoencoder takes more memory than the denoiser does. Then
    two evaluations a draw at batch 2B, and no sampling.

    Args:
        denoiser: The model.
        draws: The batch.
        pictures: By identity, ``(height, width, 3)`` uint8, at the model's size.
        spec: Timestep, and the detectors and maps that are asked for; its source is ``image``.
        baselines: Networks of baselines by name; only used where images are scored without
            captions.

    Raises:
        TypeError: If attention is asked for and the model gives none.
    """
    setting = setting_of(denoiser, draws, spec, baselines)
    _, alpha, sigma = setting.level(0)
    latents = {d.identity: denoiser.compress(pictures[d.identity][None])[0] for d in draws}
    clean = torch.stack([latents[d.identity] for d in draws])
    watching = observers(setting, spec.detectors)
    x = snapback.noised(clean, initial_latents(denoiser, draws), alpha, sigma)
    step = take_step(setting, draws, spec, 0, x)
    for observer in watching.values():
        observer.update(step)
    ratio, ratios = snap_back(setting, x, clean, step.conditional, step.unconditional)
    found: Maps = {("snap_back", "null"): ratios}
    if step.attention is not None:
        found["bright_ending", "none"] = step.attention
    scores = {name: observer.scores() for name, observer in watching.items()}
    return Detection(
        x, step.after, maps.delta_s(step.conditional, step.unconditional),
        scores | {"snap_back": ratio}, found, alpha * clean,
        conditional=step.conditional if spec.flag_baseline is not None else None,
    )  # fmt: skip


def snap_back(
    setting: TrajectorySetting, x: Tensor, clean: Tensor, own: Tensor, other: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the snap-back against a baseline, of the whole picture and by position, in bits.

    Args:
        setting: With the level of ``x``.
        x: The noised latents, ``(B, C, H, W)``.
        clean: What was noised.
        own: The model's score under the caption.
        other: The baseline's.

    Returns:
        ``(B,)`` and ``(B, H, W)``.
    """
    _, alpha, sigma = setting.level(-1)
    mine = snapback.denoising_error(x, own, clean, alpha, sigma)
    theirs = snapback.denoising_error(x, other, clean, alpha, sigma)
    window = masks.window(max(x.shape[2:]))
    return snapback.snap_back(mine, theirs), snapback.snap_back_map(mine, theirs, window)
