"""Draws, and what their trajectories start from: noise, probes, conditions and levels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from scanner.models.base import Denoiser, Worded
from scanner.models.memory import sent
from scanner.numerics import noise, portions
from scanner.scan.evaluation_counter import preparing
from scanner.scan.setting import TrajectorySetting
from scanner.spec import ScanSpec


@dataclass(frozen=True, slots=True)
class Draw:
    """One sampling of one caption, or one noising of its image.

    Attributes:
        text: The caption.
        identity: `scanner.records.Caption.identity`; with the seed, what noise and probes are
            keyed by.
        seed: Sampling seed.
        at_image: Whether it is the image that is scored.
    """

    text: str
    identity: str
    seed: int
    at_image: bool = False


@dataclass(frozen=True, slots=True)
class ProbePortion:
    """Rounds of draws' probes, as in `scanner.numerics.portions.Portion`.

    Attributes:
        vectors: ``(R, k, B, C, H, W)``: rounds of ``k`` probes.
        is_new: Whether the grid is finer than before.
    """

    vectors: Tensor
    is_new: bool


def initial_latents(denoiser: Denoiser, draws: Sequence[Draw]) -> Tensor:
    """Return the pure noise that draws start from, ``(B, C, H, W)``."""
    shape = denoiser.latent_shape
    with preparing(denoiser):
        own = [noise.initial_latent(d.identity, d.seed, shape) for d in draws]
        return sent(torch.stack(own), denoiser.device)


def probes_of(denoiser: Denoiser, draws: Sequence[Draw], spec: ScanSpec) -> Tensor:
    """Return every draw's own probes, ``(K, B, C, H, W)``."""
    return torch.cat([p.vectors.flatten(0, 1) for p in portions_of(denoiser, draws, spec)])


def portions_of(denoiser: Denoiser, draws: Sequence[Draw], spec: ScanSpec) -> list[ProbePortion]:
    """Return every draw's own probes by portion."""
    shape = denoiser.latent_shape
    plan = portions.portions_of(
        shape[0], spec.probes, spec.probe_design, adaptive=spec.stops_early
    )  # fmt: skip
    with preparing(denoiser):
        own = [noise.in_portions(d.identity, d.seed, shape, plan) for d in draws]
        return [
            ProbePortion(sent(torch.stack(vectors, dim=2), denoiser.device), portion.is_new)
            for portion, *vectors in zip(plan, *own, strict=True)
        ]


def setting_of(
    denoiser: Denoiser, draws: Sequence[Draw], spec: ScanSpec,
    baselines: Mapping[str, Denoiser] | None = None,
) -> TrajectorySetting:  # fmt: skip
    """Return what the draws' trajectory goes through.

    Without captions the branches that are compared are the model's and its only baseline's.
    """
    at_image = spec.source == "image"
    schedule = denoiser.single(spec.timestep) if at_image else denoiser.schedule(spec.steps)
    other = None if spec.captions or not baselines else next(iter(baselines.values()))
    conditions = both_conditions(denoiser, draws, other)
    return TrajectorySetting(denoiser, conditions, schedule, other)


def both_conditions(
    denoiser: Denoiser, draws: Sequence[Draw], other: Denoiser | None = None
) -> Tensor:
    """Return the captions' conditions, then as many unconditional ones, ``(2B, *)``.

    Args:
        denoiser: The model.
        draws: The batch.
        other: Whose unconditional branch it is; null for the model's own.
    """
    captions, empty = denoiser.encode([d.text for d in draws]), denoiser.encode([""])
    if other is not None:
        empty = baseline_conditions(other, [""], empty)
    return torch.cat([captions, empty.expand_as(captions)])


def baseline_conditions(network: Denoiser, captions: Sequence[str], shared: Tensor) -> Tensor:
    """Return the conditions of captions for a baseline network.

    Args:
        network: The baseline.
        captions: What it is conditioned on.
        shared: The model's own conditions, which the baseline takes unless it encodes words
            differently.
    """
    is_own = isinstance(network, Worded) and network.text_differs
    return network.encode(captions) if is_own else shared
