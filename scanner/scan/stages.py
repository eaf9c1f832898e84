"""The two stages of a scan as pure steps from a batch to a batch: detect and localize."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from scanner.models.base import Denoiser
from scanner.numerics import curvature, maps, noise
from scanner.numerics.schedule import Schedule, ddim_step
from scanner.spec import ScanSpec

Level = tuple[int, float, float]
"""Timestep, alpha and sigma."""


@dataclass(frozen=True, slots=True)
class Draw:
    """One sampling of one caption: what noise and probes are keyed by."""

    text: str
    sha256: str
    seed: int


@dataclass(frozen=True, slots=True)
class Detection:
    """What sampling gives for a batch.

    Attributes:
        point: The latents at the last timestep, where maps are taken, ``(B, C, H, W)``.
        final: The finished latents, ``(B, C, H, W)``.
        delta_s: The map against the unconditional branch, ``(B, H, W)``.
    """

    point: Tensor
    final: Tensor
    delta_s: Tensor


def level_of(schedule: Schedule, step: int) -> Level:
    """Return the level of a step."""
    return schedule.timesteps[step], schedule.alphas[step], schedule.sigmas[step]


@torch.no_grad()
def detect(denoiser: Denoiser, draws: Sequence[Draw], spec: ScanSpec) -> Detection:
    """Sample every draw with classifier-free guidance and take Δs at the last timestep.

    Two evaluations a step, at batch 2B; Δs costs none of its own, because the last step needs
    both scores anyway. ``steps * 2`` evaluations a draw.

    Args:
        denoiser: The model.
        draws: The batch.
        spec: Steps and guidance scale.
    """
    schedule = denoiser.schedule(spec.steps)
    x = torch.stack([noise.initial_latent(d.sha256, d.seed, denoiser.latent_shape) for d in draws])
    x = x.to(denoiser.device)
    condition = both_conditions(denoiser, draws)
    point, difference = x, torch.zeros_like(x)
    for step in range(spec.steps):
        scores = denoiser.score(torch.cat([x, x]), level_of(schedule, step), condition)
        conditional, unconditional = scores.chunk(2)
        difference = conditional - unconditional
        point = x
        x = ddim_step(x, unconditional + spec.guidance_scale * difference, schedule, step)
    return Detection(point, x, difference.square().sum(dim=1))


def both_conditions(denoiser: Denoiser, draws: Sequence[Draw]) -> Tensor:
    """Return the captions' conditions, then as many unconditional ones, ``(2B, *)``."""
    captions = denoiser.encode([d.text for d in draws])
    return torch.cat([captions, denoiser.encode([""]).expand_as(captions)])


def localize(
    denoiser: Denoiser, baseline: tuple[str, Denoiser] | None, draws: Sequence[Draw],
    point: Tensor, spec: ScanSpec,
) -> dict[tuple[str, str], Tensor]:  # fmt: skip
    """Return the curvature maps, and those against a less-trained network, at given points.

    K vector-Jacobian products over both branches, and K over the baseline network's conditional
    one; all branches see the same probes.

    Args:
        denoiser: The model.
        baseline: Name and network of the less-trained baseline, if there is one.
        draws: The batch.
        point: ``(B, C, H, W)`` from `detect`.
        spec: Steps, probes and their design.

    Returns:
        ``(B, H, W)`` float32 by (metric, baseline name).
    """
    level = level_of(denoiser.schedule(spec.steps), spec.steps - 1)
    vectors = torch.stack(
        [
            noise.probes(d.sha256, d.seed, denoiser.latent_shape, spec.probes, spec.probe_design)
            for d in draws
        ],
        dim=1,
    ).to(denoiser.device)
    condition = both_conditions(denoiser, draws)
    pair = torch.cat([point, point])
    scores, diagonals = _score_and_diagonal(
        lambda x: denoiser.score(x, level, condition), pair, torch.cat([vectors, vectors], dim=1)
    )
    (score, _), (own, null) = scores.chunk(2), diagonals.chunk(2)
    found = {
        ("delta_h", "null"): maps.delta_h(own, null),
        ("curvature", "none"): maps.curvature(own),
    }
    if baseline is not None:
        name, network = baseline
        captions = condition[: len(draws)]
        other, early = _score_and_diagonal(
            lambda x: network.score(x, level, captions), point, vectors
        )
        found["delta_h", name] = maps.delta_h(own, early)
        found["delta_s", name] = maps.delta_s(score, other)
    return found


def _score_and_diagonal(
    function: Callable[[Tensor], Tensor], point: Tensor, vectors: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the function's value and its Jacobian's diagonal from one graph."""
    values: list[Tensor] = []

    def remembered(x: Tensor) -> Tensor:
        values.append(function(x))
        return values[0]

    diagonal = curvature.jacobian_diagonal(remembered, point, vectors)
    return values[0].detach(), diagonal
