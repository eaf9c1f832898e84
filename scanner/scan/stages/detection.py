"""Scores, maps and latents of a batch after detection, by sampling or at its images."""

from dataclasses import dataclass, field

from torch import Tensor

Maps = dict[tuple[str, str], Tensor]
"""``(B, H, W)`` float32 by (metric, baseline name)."""


@dataclass(frozen=True, slots=True)
class Detection:
    """Scores and latents of a batch, from sampling or from images.

    Attributes:
        point: The latents at the step where maps are taken, ``(B, C, H, W)``.
        final: The finished latents, ``(B, C, H, W)``; of an image, its one-step estimate.
        delta_s: The map against the unconditional branch, ``(B, H, W)``.
        scores: Further detectors' scores by name, ``(B,)`` each.
        maps: Further maps that sampling gives for nothing.
        paths: A number per step by detector, ``(B, K)``, for detectors that a calibration compares.
        conditional: The score under the caption at ``point``, ``(B, C, H, W)``; null where nothing
            is compared with it.
        clean: The sampler's guess at the last timestep of the clean latent, or the image's own,
            scaled to that level, ``(B, C, H, W)``; null if nothing looks there.
    """

    point: Tensor
    final: Tensor
    delta_s: Tensor
    scores: dict[str, Tensor] = field(default_factory=dict)
    maps: Maps = field(default_factory=dict)
    clean: Tensor | None = None
    paths: dict[str, Tensor] = field(default_factory=dict)
    conditional: Tensor | None = None
