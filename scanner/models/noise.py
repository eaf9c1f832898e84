"""Noise-to-signal ratios of a model's training timesteps, by its own schedule; no weights are read.

A latent at a timestep is ``alpha z + sigma n``: the ratio is ``sigma / alpha``. It means the same
for every model, which a timestep does not.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from scanner import models
from scanner.errors import ConfigError
from scanner.models.limits import limits, scheduler_of

SLACK = 0.01
"""Relative, at either end: ratios are printed with four digits."""


def noise_ratios(model: str) -> NDArray[np.float64]:
    """Return ``sigma / alpha`` of every training timestep, ``(timesteps,)``, not falling.

    It is 0 where a latent has no noise, and infinite where it has no signal.

    Args:
        model: A pipeline folder, a hub id or ``gaussian``.

    Raises:
        ConfigError: If the model is not there, or has no schedule that memscan follows.
    """
    known = limits(model)
    if known.is_flow:
        sigmas = np.arange(known.timesteps) / known.timesteps
        return sigmas / (1 - sigmas)
    squares = _gaussian_squares() if model == models.GAUSSIAN else _squares(model)
    with np.errstate(divide="ignore"):
        return np.sqrt((1 - squares) / squares)


def nearest_timestep(model: str, noise: float) -> tuple[int, float]:
    """Return the training timestep whose noise-to-signal ratio is nearest, and its own ratio.

    Nearest by the quotient of the two.

    Args:
        model: A pipeline folder, a hub id or ``gaussian``.
        noise: ``sigma / alpha``.

    Raises:
        ConfigError: If the model has no such level.
    """
    ratios = noise_ratios(model)
    usable = np.flatnonzero((ratios > 0) & np.isfinite(ratios))
    least, most = ratios[usable[0]], ratios[usable[-1]]
    if not least * (1 - SLACK) <= noise <= most * (1 + SLACK):
        raise ConfigError(
            f"noise must be from {least:.4g} to {most:.4g}, the noise to signal of {model} at its "
            f"timesteps {usable[0]} to {usable[-1]}, got {noise:g}"
        )
    found = int(usable[np.abs(np.log(ratios[usable] / noise)).argmin()])
    return found, float(ratios[found])


def _squares(model: str) -> NDArray[np.float64]:
    """Return ``alpha**2`` of every training timestep of a variance-preserving pipeline."""
    from diffusers import DDIMScheduler

    scheduler: Any = DDIMScheduler.from_config(scheduler_of(model))
    return scheduler.alphas_cumprod.double().numpy()


def _gaussian_squares() -> NDArray[np.float64]:
    from scanner.models.gaussian import Gaussian

    model, timesteps = Gaussian(), limits(models.GAUSSIAN).timesteps
    return np.square([model.single(timestep).alphas[0] for timestep in range(timesteps)])
