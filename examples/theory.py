"""The theory behind Δh and Δs on distributions where everything is known exactly.

Two claims of Kim & Lee (2026), each as a function that a test compares with exact expectations,
and one figure of both:

1. Their Figure 2. Two linear Gaussians of the same rank and norm have the same intrinsic
   dimension and the same total curvature; only the curvature *coordinate by coordinate* tells
   which coordinates have collapsed.
2. Their Proposition 4.2. Averaged over the captions that a point may belong to, the squared
   score difference is the curvature difference, coordinate by coordinate. For one caption it is
   not: the figure shows by how much.

Run from the repository: ``python examples/theory.py --out docs/theory.png``
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from scanner.numerics.curvature import exact_diagonal

SPREAD = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]).double() / 2**0.5
"""``(4, 2)``: each direction shared by two coordinates, none of which collapses by itself."""
LOCAL = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0], [0.0, 0.0]]).double()
"""``(4, 2)``: two coordinates move freely, the other two have collapsed."""


def linear_gaussian_curvature(factor: Tensor, noise: float) -> Tensor:
    """Return ``diag(-H)`` of ``x = A z + e`` by differentiating its score.

    Args:
        factor: ``A``, ``(D, R)`` float64.
        noise: Standard deviation of ``e``; ``z`` is standard normal.

    Returns:
        ``(D,)``, in 1 / x². In exact arithmetic the diagonal of ``(A A^T + noise² I)^-1``.
    """
    size = len(factor)
    precision = torch.linalg.inv(factor @ factor.T + noise**2 * torch.eye(size).double())
    return -exact_diagonal(lambda x: -x @ precision, torch.zeros(1, size).double())[0]


@dataclass(frozen=True)
class Captions:
    """A mixture of Gaussians: each component is what one caption gives.

    Attributes:
        weights: ``(N,)``, how often each caption occurs; sums to one.
        means: ``(N, D)`` float64.
        covariances: ``(N, D, D)`` float64.
    """

    weights: Tensor
    means: Tensor
    covariances: Tensor

    def noised(self, alpha: float, sigma: float) -> "Captions":
        """Return the distribution of ``alpha x + sigma e``, a mixture of Gaussians again."""
        unit = torch.eye(self.means.shape[1]).double()
        return Captions(
            self.weights, alpha * self.means, alpha**2 * self.covariances + sigma**2 * unit
        )

    def log_densities(self, x: Tensor) -> Tensor:
        """Return ``log p(x | c)`` for every caption, ``(N,)``, at one point ``(D,)``."""
        normal = torch.distributions.MultivariateNormal(
            self.means, self.covariances, validate_args=False
        )
        return normal.log_prob(x)

    def log_density(self, x: Tensor) -> Tensor:
        """Return ``log p(x)``, the unconditional one."""
        return torch.logsumexp(self.weights.log() + self.log_densities(x), dim=0)

    def posterior(self, x: Tensor) -> Tensor:
        """Return ``p(c | x)``, ``(N,)``."""
        return torch.softmax(self.weights.log() + self.log_densities(x), dim=0)

    def draw(self, caption: int, number: int, generator: torch.Generator) -> Tensor:
        """Return points under one caption, ``(number, D)``."""
        factor = torch.linalg.cholesky(self.covariances[caption])
        white = torch.randn(number, len(factor), generator=generator, dtype=torch.float64)
        return self.means[caption] + white @ factor.T


@dataclass(frozen=True)
class Differences:
    """Conditional minus unconditional at one point, for every caption.

    Attributes:
        posterior: ``p(c | x)``, ``(N,)``.
        scores: ``s(x | c) - s(x)``, ``(N, D)``, in 1 / x.
        curvatures: ``-H(x | c) + H(x)``, ``(N, D, D)``, in 1 / x².
    """

    posterior: Tensor
    scores: Tensor
    curvatures: Tensor

    @property
    def delta_s(self) -> Tensor:
        """Δs of every caption, ``(N, D)``."""
        return self.scores.square()

    @property
    def delta_h(self) -> Tensor:
        """Δh of every caption, ``(N, D)``."""
        return self.curvatures.diagonal(dim1=1, dim2=2)

    @property
    def fisher(self) -> Tensor:
        """``E_c[(∇ log p(c|x)) (∇ log p(c|x))^T]``, ``(D, D)``: the left of their equation 3.

        By Bayes ``∇ log p(c|x)`` is the score difference.
        """
        return torch.einsum("n,ni,nj->ij", self.posterior, self.scores, self.scores)

    @property
    def expected_curvature(self) -> Tensor:
        """``E_c[-∇² log p(c|x)]``, ``(D, D)``: the right of their equation 3."""
        return torch.einsum("n,nij->ij", self.posterior, self.curvatures)


def differences(captions: Captions, x: Tensor) -> Differences:
    """Take score and curvature differences at a point ``(D,)`` by automatic differentiation.

    Exact to rounding, and independent of the closed form of a mixture's score.
    """
    whole = torch.autograd.functional.jacobian(captions.log_density, x)
    parts = torch.autograd.functional.jacobian(captions.log_densities, x)
    whole_hessian = torch.autograd.functional.hessian(captions.log_density, x)
    gradients = torch.func.jacrev(torch.func.jacrev(captions.log_densities))(x)
    return Differences(captions.posterior(x), parts - whole, whole_hessian - gradients)


def a_memorized_caption(
    size: int = 8, others: int = 7, share: float = 1e-5, seed: int = 0
) -> Captions:
    """Return captions of which the first is memorized on the first half of its coordinates.

    Args:
        size: Coordinates of a point.
        others: Captions that are not memorized.
        share: How often the memorized caption occurs; in a corpus, hardly ever, so that without
            the caption nobody would guess it.
        seed: Of the means.
    """
    generator = torch.Generator().manual_seed(seed)
    means = 0.5 * torch.randn(1 + others, size, generator=generator, dtype=torch.float64)
    covariances = torch.stack([torch.eye(size).double()] * (1 + others))
    half = range(size // 2)
    covariances[0, half, half] = 0.01
    weights = torch.tensor([share] + [(1 - share) / others] * others).double()
    return Captions(weights, means, covariances)


def draw(path: Path) -> None:
    """Draw both claims into a PNG."""
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(2, 3, figsize=(13, 7.2), layout="constrained")
    generator = torch.Generator().manual_seed(1)
    for row, (factor, name) in enumerate(((SPREAD, "spread"), (LOCAL, "local"))):
        z = torch.randn(400, 2, generator=generator, dtype=torch.float64)
        x = z @ factor.T + 0.1 * torch.randn(400, 4, generator=generator, dtype=torch.float64)
        axes[row, 0].scatter(x[:, 2], x[:, 3], s=6, color="#3b6fb6")
        axes[row, 0].set(
            title=f"{name}: rank 2, ‖A‖² = {factor.square().sum():.0f}", xlim=(-3, 3),
            ylim=(-3, 3), xlabel="$x_3$", ylabel="$x_4$", aspect="equal",
        )  # fmt: skip
        curvature = linear_gaussian_curvature(factor, 0.1)
        axes[row, 1].bar([f"$x_{i}$" for i in range(1, 5)], curvature, color="#3b6fb6")
        axes[row, 1].set(title=f"diag(−H), sum {curvature.sum():.0f}", ylim=(0, 110))
    _draw_identity(axes[0, 2])
    _draw_one_caption(axes[1, 2])
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def _draw_identity(axis) -> None:  # noqa: ANN001
    """Both sides of the proposition's diagonal, at points of several noise levels."""
    captions, generator = a_memorized_caption(), torch.Generator().manual_seed(2)
    for sigma in (0.05, 0.2, 0.6):
        noised = captions.noised((1 - sigma**2) ** 0.5, sigma)
        found = [differences(noised, x) for x in noised.draw(1, 40, generator)]
        left = torch.cat([f.expected_curvature.diagonal() for f in found])
        right = torch.cat([f.posterior @ f.delta_s for f in found])
        axis.loglog(left, right, ".", ms=4, label=f"σ = {sigma}")
    low, high = axis.get_xlim()
    axis.plot((low, high), (low, high), color="#999", lw=1, zorder=0)
    axis.set(title="averaged over captions: equal", xlabel="E[Δh]", ylabel="E[Δs]")
    axis.legend()


def _draw_one_caption(axis) -> None:  # noqa: ANN001
    """Δh and Δs of the memorized caption alone, inside its region and outside, by noise level."""
    captions, generator = a_memorized_caption(), torch.Generator().manual_seed(3)
    sigmas = torch.logspace(-2, -0.05, 16).tolist()
    lines: dict[str, list[float]] = {f"{n} {w}": [] for n in ("Δh", "Δs") for w in ("in", "out")}
    for sigma in sigmas:
        noised = captions.noised((1 - sigma**2) ** 0.5, sigma)
        found = [differences(noised, x) for x in noised.draw(0, 40, generator)]
        for name, field in (("Δh", "delta_h"), ("Δs", "delta_s")):
            mean = torch.stack([getattr(f, field)[0] for f in found]).mean(dim=0)
            lines[f"{name} in"].append(float(mean[:4].mean()))
            lines[f"{name} out"].append(float(mean[4:].abs().mean()))
    for name, values in lines.items():
        style = "-" if name.startswith("Δh") else "--"
        axis.loglog(sigmas, values, style, label=f"{name}side the region")
    axis.set(title="the memorized caption alone", xlabel="σ", ylabel="mean over coordinates")
    axis.legend()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("theory.png"))
    draw(parser.parse_args().out)
