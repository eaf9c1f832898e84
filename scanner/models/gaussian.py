"""A conditional Gaussian in closed form: smoke scans, and the truth that tests compare with."""

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

from scanner.methods import Need
from scanner.models.base import Level
from scanner.models.limits import GAUSSIAN_TIMESTEPS
from scanner.numerics.schedule import Prediction, Schedule


class Gaussian:
    """A model whose latents under a caption are ``N(mean, variance)`` with independent entries.

    The empty caption is the standard normal. A caption's mean is drawn from its hash; one in
    eight (by hash) is memorized on the upper half of its latent, where its variance is small. At
    the level (alpha, sigma) the score is ``-(x - alpha mean) / (alpha**2 variance + sigma**2)``
    and its curvature the inverse of that denominator, both exactly.
    """

    latent_shape: tuple[int, int, int] = (4, 8, 8)
    picture_size: tuple[int, int] = (32, 32)
    has: frozenset[Need] = frozenset()

    def __init__(self, device: str = "cpu") -> None:
        self.device = torch.device(device)
        betas = torch.linspace(
            0.00085**0.5, 0.012**0.5, GAUSSIAN_TIMESTEPS, dtype=torch.float64
        ).square()
        self._cumulative = (1 - betas).cumprod(0).tolist()

    def schedule(self, steps: int) -> Schedule:
        """Return Stable Diffusion 1's levels."""
        stride = GAUSSIAN_TIMESTEPS // steps
        timesteps = [1 + stride * i for i in reversed(range(steps))]
        timesteps = [min(t, GAUSSIAN_TIMESTEPS - 1) for t in timesteps]
        return Schedule.from_cumulative(timesteps, self._cumulative, self._cumulative[0])

    def single(self, timestep: int) -> Schedule:
        """Return the schedule of one step.

        Raises:
            ValueError: If the model has no such timestep.
        """
        return Schedule.single(timestep, self._cumulative, self._cumulative[0])

    def encode(self, captions: Sequence[str]) -> Tensor:
        """Return means and variances, ``(B, 2, C, H, W)``."""
        return torch.stack([self._moments(caption) for caption in captions]).to(self.device)

    def predict(self, x: Tensor, level: Level, condition: Tensor) -> Prediction:
        """Return what a network that predicts the noise would put out."""
        return Prediction(self.score(x, level, condition) * -level[2], 1.0, 0.0)

    def score(self, x: Tensor, level: Level, condition: Tensor) -> Tensor:
        """Return the closed form."""
        _, alpha, sigma = level
        mean, variance = condition.unbind(dim=1)
        return -(x - alpha * mean) / (alpha**2 * variance + sigma**2)

    def decode(self, latents: Tensor) -> Tensor:
        """Return the first three channels as colours, four pixels a position."""
        colours = (latents[:, :3].clamp(-2, 2) + 2) / 4 * 255
        pixels = colours.repeat_interleave(4, dim=2).repeat_interleave(4, dim=3)
        return pixels.permute(0, 2, 3, 1).to(torch.uint8).cpu()

    def compress(self, pictures: Tensor) -> Tensor:
        """Return what `decode` gave these colours for, to half a step of it; channel 4 is zero."""
        pixels = pictures.to(self.device).permute(0, 3, 1, 2).float()
        colours = torch.nn.functional.avg_pool2d(pixels, 4) / 255 * 4 - 2
        return torch.cat([colours, torch.zeros_like(colours[:, :1])], dim=1)

    def _moments(self, caption: str) -> Tensor:
        mean, variance = torch.zeros(self.latent_shape), torch.ones(self.latent_shape)
        if caption:
            digest = hashlib.sha256(caption.encode()).digest()
            generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
            mean = 0.3 * torch.randn(self.latent_shape, generator=generator)
            variance *= 0.9
            if digest[7] % 8 == 0:
                mean[:, :4] *= 3
                variance[:, :4] = 0.001
        return torch.stack([mean, variance])
