r"""Noise schedules, and from a network's output to the score.

A schedule noises a clean latent ``z`` to ``x = alpha z + sigma n`` with ``n`` standard normal.
The score of the noised density is :math:`s(x) = \nabla_x \log p(x) = -E[n | x] / \sigma`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True)
class Schedule:
    """The noise levels that a sampler visits, noisiest first.

    Attributes:
        timesteps: Training timesteps, one a step.
        alphas: Scale of the clean latent, one a step and one more for where the last step ends.
        sigmas: Scale of the noise, likewise.
    """

    timesteps: tuple[int, ...]
    alphas: tuple[float, ...]
    sigmas: tuple[float, ...]

    def __post_init__(self) -> None:
        """Refuse levels that do not belong together.

        Raises:
            ValueError: If the lengths disagree.
        """
        if not len(self.alphas) == len(self.sigmas) == len(self.timesteps) + 1:
            raise ValueError(
                f"{len(self.timesteps)} steps need {len(self.timesteps) + 1} levels, got "
                f"{len(self.alphas)} alphas and {len(self.sigmas)} sigmas"
            )

    @classmethod
    def from_cumulative(
        cls, timesteps: Sequence[int], cumulative: Sequence[float], final: float
    ) -> "Schedule":
        """Return the schedule of a variance-preserving model.

        Args:
            timesteps: The sampler's timesteps, noisiest first.
            cumulative: ``alpha**2`` by training timestep.
            final: ``alpha**2`` where the last step ends.
        """
        squares = [float(cumulative[t]) for t in timesteps] + [float(final)]
        return cls(
            tuple(int(t) for t in timesteps),
            tuple(a**0.5 for a in squares),
            tuple((1 - a) ** 0.5 for a in squares),
        )

    @classmethod
    def single(cls, timestep: int, cumulative: Sequence[float], final: float) -> "Schedule":
        """Return the schedule of one step, from a training timestep to the last level.

        Raises:
            ValueError: If there is no such timestep.
        """
        if not 0 <= timestep < len(cumulative):
            raise ValueError(f"timestep must be from 0 to {len(cumulative) - 1}, got {timestep}")
        return cls.from_cumulative([timestep], cumulative, final)


def score_of_noise(noise: Tensor, sigma: float) -> Tensor:
    """Return the score of a predicted noise: ``-noise / sigma``."""
    return noise / -sigma


def score_of_velocity(velocity: Tensor, x: Tensor, alpha: float, sigma: float) -> Tensor:
    """Return the score of a predicted velocity ``v = alpha n - sigma z``.

    From ``n = alpha v + sigma x`` follows ``s = -(alpha / sigma) v - x``, for
    ``alpha**2 + sigma**2 == 1``.
    """
    return velocity * (-alpha / sigma) - x


def ddim_step(x: Tensor, score: Tensor, schedule: Schedule, step: int) -> Tensor:
    """Return the latent after one deterministic DDIM step (Song et al. 2021, eta 0).

    Args:
        x: ``(B, C, H, W)`` at the level of ``step``.
        score: The (guided) score there, same shape.
        schedule: The levels.
        step: Counted from 0, the noisiest.
    """
    alpha, sigma = schedule.alphas[step], schedule.sigmas[step]
    noise = score * -sigma
    clean = (x - sigma * noise) / alpha
    return schedule.alphas[step + 1] * clean + schedule.sigmas[step + 1] * noise
