r"""Noise schedules, and from a network's output to the score.

A schedule noises a clean latent ``z`` to ``x = alpha z + sigma n`` with ``n`` standard normal.
The score of the noised density is :math:`s(x) = \nabla_x \log p(x) = -E[n | x] / \sigma`.

Whatever a network is trained on, its output is ``o = a n + b z`` in expectation: noise (1, 0),
clean latent (0, 1), velocity (alpha, -sigma), flow (1, -1), reversed flow (-1, 1). With x it
decides both n and z, and so the score: see `Prediction`.
"""

import bisect
import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from scanner.numerics.thresholding import Thresholding

ROUNDING = 1e-6
"""Radians by which a level may lie outside a schedule and still be its end."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """The noise levels that a sampler visits, noisiest first.

    Attributes:
        timesteps: Training timesteps, one a step.
        alphas: Scale of the clean latent, one a step and one more for where the last step ends.
        sigmas: Scale of the noise, likewise.
        next_alphas: Scale of the clean latent where each step ends. Left out, each step ends
            where the next one begins; samplers whose timesteps are not evenly spaced end elsewhere.
        next_sigmas: Scale of the noise there.
        flow: 0 of a variance-preserving model. Of a flow (``alpha + sigma == 1``) what its
            network predicts: 1 for ``n - z``, -1 for ``z - n``. It starts at ``alpha == 0``,
            where scores are ``-x`` whatever the caption is, so what is compared between two
            branches there is their outputs.
        thresholding: What steps do to the clean latent, or null.
    """

    timesteps: tuple[float, ...]
    alphas: tuple[float, ...]
    sigmas: tuple[float, ...]
    next_alphas: tuple[float, ...] = ()
    next_sigmas: tuple[float, ...] = ()
    flow: int = 0
    thresholding: Thresholding | None = None

    def __post_init__(self) -> None:
        """Fill in where steps end, and refuse levels that do not belong together.

        Raises:
            ValueError: If the lengths disagree.
        """
        if not len(self.alphas) == len(self.sigmas) == len(self.timesteps) + 1:
            raise ValueError(
                f"{len(self.timesteps)} steps need {len(self.timesteps) + 1} levels, got "
                f"{len(self.alphas)} alphas and {len(self.sigmas)} sigmas"
            )
        if not self.next_alphas:
            object.__setattr__(self, "next_alphas", self.alphas[1:])
            object.__setattr__(self, "next_sigmas", self.sigmas[1:])

    @classmethod
    def from_cumulative(
        cls, timesteps: Sequence[int], cumulative: Sequence[float], final: float, stride: int = 0
    ) -> "Schedule":
        """Return the schedule of a variance-preserving model.

        Args:
            timesteps: The sampler's timesteps, noisiest first.
            cumulative: ``alpha**2`` by training timestep.
            final: ``alpha**2`` where the last step ends.
            stride: How many training timesteps each step goes down, as diffusers' DDIM does,
                whatever timestep comes next; 0 goes to the next timestep.
        """
        squares = [float(cumulative[t]) for t in timesteps] + [float(final)]
        ends = squares[1:]
        if stride:
            ends = [cumulative[t - stride] if t >= stride else final for t in timesteps]
        here, there = (
            [tuple(part(a) for a in each) for part in (_alpha, _sigma)] for each in (squares, ends)
        )
        return cls(tuple(int(t) for t in timesteps), *here, next_alphas=there[0],
                   next_sigmas=there[1])  # fmt: skip

    @classmethod
    def single(cls, timestep: int, cumulative: Sequence[float], final: float) -> "Schedule":
        """Return the schedule of one step, from a training timestep to the last level.

        Raises:
            ValueError: If there is no such timestep.
        """
        if not 0 <= timestep < len(cumulative):
            raise ValueError(f"timestep must be from 0 to {len(cumulative) - 1}, got {timestep}")
        return cls.from_cumulative([timestep], cumulative, final)

    @classmethod
    def from_flow(
        cls, sigmas: Sequence[float], flow: int, timesteps: Sequence[float] = ()
    ) -> "Schedule":
        """Return the schedule of a flow, ``x = (1 - sigma) z + sigma n``.

        Args:
            sigmas: One a step, falling, and where the last step ends.
            flow: 1 for networks that predict ``n - z``, -1 for ``z - n``.
            timesteps: One a step; ``1000 sigma`` if left out.
        """
        found = tuple(float(sigma) for sigma in sigmas)
        told = tuple(timesteps) or tuple(1000 * sigma for sigma in found[:-1])
        return cls(told, tuple(1 - sigma for sigma in found), found, flow=flow)


def _alpha(square: float) -> float:
    return float(square) ** 0.5


def _sigma(square: float) -> float:
    return (1 - float(square)) ** 0.5


def guided(conditional: Tensor, unconditional: Tensor, guidance_scale: float) -> Tensor:
    """Return classifier-free guidance, ``u + g (c - u)``, of scores or of outputs.

    Source: Ho & Salimans 2022, with g = 1 + w.

    Args:
        conditional: Of the caption, ``(B, *)``.
        unconditional: Without it, same shape.
        guidance_scale: g; 1 is the conditional one.
    """
    return unconditional + guidance_scale * (conditional - unconditional)


@dataclass(frozen=True, slots=True)
class Prediction:
    """A network's output at a level, and the quantity that it predicts.

    Attributes:
        output: ``(B, C, H, W)``, float32.
        noise: The output is ``noise * n + clean * z`` of the noise n and the clean latent z.
        clean: Likewise.

    A network that predicts the noise has (1, 0), the clean latent (0, 1), the velocity
    ``(alpha, -sigma)``, a flow (1, -1) and a reversed flow (-1, 1).
    """

    output: Tensor
    noise: float
    clean: float

    def score(self, x: Tensor, alpha: float, sigma: float) -> Tensor:
        """Return the score at x that the output stands for, same shape, in 1 / latent.

        ``s = -n / sigma``, with the noise of `estimates`. Where alpha is 0 it is ``-x / sigma``
        of every network but one that predicts the noise itself.

        Args:
            x: Where the output is from.
            alpha: Scale of the clean latent in x.
            sigma: Scale of the noise in x.

        Raises:
            ValueError: If the output and x do not decide it.
        """
        if (self.noise, self.clean) == (1.0, 0.0):
            return score_of_noise(self.output, sigma)
        scale = sigma * self._determinant(alpha, sigma)
        return self.output * (-alpha / scale) + x * (self.clean / scale)

    def estimates(self, x: Tensor, alpha: float, sigma: float) -> tuple[Tensor, Tensor]:
        """Return the clean latent and the noise that the output stands for.

        Solves ``x = alpha z + sigma n`` and ``output = clean z + noise n``. Finite at alpha = 0
        but for a network that predicts the noise alone, of which x holds nothing else there.

        Args:
            x: Where the output is from, same shape.
            alpha: Scale of the clean latent in x.
            sigma: Scale of the noise in x.

        Raises:
            ValueError: If the output and x do not decide them.
        """
        determinant = self._determinant(alpha, sigma)
        clean = (self.noise * x - sigma * self.output) / determinant
        return clean, (alpha * self.output - self.clean * x) / determinant

    def guided(self, guidance_scale: float) -> "Prediction":
        """Return ``u + g (c - u)`` of a batch whose first half is c and whose second half is u."""
        own, null = self.output.chunk(2)
        return Prediction(guided(own, null, guidance_scale), self.noise, self.clean)

    def put_as(self, other: "Prediction", x: Tensor, alpha: float, sigma: float) -> "Prediction":
        """Return what a network that predicts what ``other`` does would have put out here.

        Args:
            other: Gives the target.
            x: Where the output is from.
            alpha: Scale of the clean latent in x.
            sigma: Scale of the noise in x.
        """
        if (self.noise, self.clean) == (other.noise, other.clean):
            return self
        clean, noise = self.estimates(x, alpha, sigma)
        return Prediction(other.noise * noise + other.clean * clean, other.noise, other.clean)

    def _determinant(self, alpha: float, sigma: float) -> float:
        determinant = alpha * self.noise - sigma * self.clean
        if determinant == 0:
            raise ValueError("a predicted noise says nothing of the clean latent at alpha = 0")
        return determinant


def target(name: str, alpha: float, sigma: float) -> tuple[float, float]:
    """Return the shares (a, b) of noise and clean latent in what a network predicts.

    Args:
        name: ``epsilon``, ``sample``, ``v_prediction``, ``flow`` or ``reversed flow``.
        alpha: Scale of the clean latent.
        sigma: Scale of the noise.

    Raises:
        ValueError: If there is no such target.
    """
    known = {
        "epsilon": (1.0, 0.0), "sample": (0.0, 1.0), "v_prediction": (alpha, -sigma),
        "flow": (1.0, -1.0), "reversed flow": (-1.0, 1.0),
    }  # fmt: skip
    if name not in known:
        raise ValueError(f"a target must be one of {', '.join(known)}, got {name!r}")
    return known[name]


def score_of_noise(noise: Tensor, sigma: float) -> Tensor:
    """Return the score of a predicted noise: ``-noise / sigma``."""
    return noise / -sigma


def matched_timestep(alpha: float, cumulative: Sequence[float]) -> float:
    """Return the training timestep at which a variance-preserving model has this alpha.

    Between two timesteps it is interpolated in the angle ``atan2(sigma, alpha)``, which is
    finite at both ends of every schedule.

    Args:
        alpha: Scale of the clean latent.
        cumulative: ``alpha**2`` by training timestep, falling.

    Raises:
        ValueError: If alpha lies outside the schedule.
    """
    angles = [math.atan2(_sigma(square), _alpha(square)) for square in cumulative]
    wanted = math.atan2(_sigma(min(1.0, alpha**2)), alpha)
    if not angles[0] - ROUNDING <= wanted <= angles[-1] + ROUNDING:
        raise ValueError(
            f"its noise levels go from alpha {math.cos(angles[0]):.5f} to "
            f"{math.cos(angles[-1]):.5f}, and {alpha:.5f} is outside"
        )
    above = min(bisect.bisect_left(angles, wanted), len(angles) - 1)
    if above == 0 or wanted >= angles[-1]:
        return float(above)
    return above - (angles[above] - wanted) / (angles[above] - angles[above - 1])


def ddim_step(x: Tensor, score: Tensor, schedule: Schedule, step: int) -> Tensor:
    """Return the latent after one deterministic DDIM step (Song et al. 2021, eta 0).

    Args:
        x: ``(B, C, H, W)`` at the level of ``step``, where alpha is not 0.
        score: The (guided) score there, same shape.
        schedule: The levels.
        step: Counted from 0, the noisiest.
    """
    alpha, sigma = schedule.alphas[step], schedule.sigmas[step]
    noise = score * -sigma
    return ddim_end((x - sigma * noise) / alpha, noise, schedule, step)


def ddim_end(clean: Tensor, noise: Tensor, schedule: Schedule, step: int) -> Tensor:
    """Return the latent where a DDIM step ends, from what it estimates.

    Args:
        clean: The clean latent, ``(B, C, H, W)``.
        noise: The noise, same shape.
        schedule: The levels.
        step: Counted from 0, the noisiest.
    """
    if schedule.thresholding is not None:
        clean = schedule.thresholding.of(clean)
    return schedule.next_alphas[step] * clean + schedule.next_sigmas[step] * noise
