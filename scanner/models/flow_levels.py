"""Levels of a flow's sampler, spaced and shifted as its pipeline does."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from scanner.models.families import Family
from scanner.numerics.schedule import Schedule


def flow_levels(
    scheduler: Any, family: Family, steps: int, *, tokens: int, channels: int
) -> Schedule:
    """Return the levels of a flow's sampler.

    Args:
        scheduler: Of diffusers; its timesteps are set.
        family: Says who spaces the levels, and what a dynamic shift counts.
        steps: How many.
        tokens: That the network makes of a latent.
        channels: Of a latent.
    """
    config, asked = scheduler.config, dict[str, Any]()
    if config.get("use_dynamic_shifting"):
        asked["mu"] = _shift(config, family.shifted_by, steps, tokens, channels)
    if family.levels == "pipeline" and not config.get("use_flow_sigmas"):
        asked["sigmas"] = np.linspace(1.0, 1 / steps, steps).tolist()
    else:
        asked["num_inference_steps"] = steps
    scheduler.set_timesteps(**asked)
    timesteps, sigmas = scheduler.timesteps.tolist(), scheduler.sigmas.tolist()
    return Schedule.from_flow(sigmas, family.flow, timesteps)


def _shift(
    config: Mapping[str, Any], shifted_by: str, steps: int, tokens: int, channels: int
) -> float:
    """Return how far levels move towards noise at this size, as the pipelines do."""
    if shifted_by == "steps":
        from diffusers.pipelines.flux2.pipeline_flux2 import compute_empirical_mu

        return compute_empirical_mu(tokens, steps)
    count = channels if shifted_by == "channels" else tokens
    low, high = config.get("base_image_seq_len", 256), config.get("max_image_seq_len", 4096)
    least, most = config.get("base_shift", 0.5), config.get("max_shift", 1.15)
    slope = (most - least) / (high - low)
    return count * slope + least - slope * low
