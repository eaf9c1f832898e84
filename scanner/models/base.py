"""The protocol that hides the model family."""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from scanner.numerics.schedule import Schedule


class Denoiser(Protocol):
    """A conditional generative model, seen through its score.

    Every method of the package is written against this. Epsilon and velocity networks are
    adapters; so are closed forms.
    """

    latent_shape: tuple[int, int, int]
    """Channels, height and width of a latent."""
    device: torch.device
    """Where latents live."""

    def schedule(self, steps: int) -> Schedule:
        """Return the noise levels that a DDIM sampler of so many steps visits."""
        ...

    def encode(self, captions: Sequence[str]) -> Tensor:
        """Return conditions, ``(B, *)``. The empty caption is the unconditional one."""
        ...

    def score(self, x: Tensor, level: tuple[int, float, float], condition: Tensor) -> Tensor:
        """Return the score at ``x``, ``(B, C, H, W)`` float32, in 1 / latent; differentiable.

        Args:
            x: ``(B, C, H, W)`` float32.
            level: Timestep, alpha and sigma.
            condition: ``(B, *)`` from `encode`.
        """
        ...

    def decode(self, latents: Tensor) -> Tensor:
        """Return pictures, ``(B, height, width, 3)`` uint8 on the CPU."""
        ...
