"""Dose and response: a logistic curve in the logarithm of the dose, with intervals."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with its 95% interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Response:
    """A fitted dose-response curve.

    Attributes:
        slope: Logits per doubling of the dose.
        effective: Doses at which 10, 50 and 90% respond. Infinite where the fitted curve does
            not rise; an interval's end is infinite where a resampled curve does not reach it.
        crossed: Whether the observed responses pass each of these shares inside the doses tried;
            where they do not, the estimate is an extrapolation.
    """

    slope: Estimate
    effective: dict[int, Estimate]
    crossed: dict[int, bool]

    def at(self, dose: float) -> float:
        """Return the share that responds at a dose."""
        return float(_sigmoid(self.slope.value * np.log2(dose / self.effective[50].value)))


def fit(
    doses: Sequence[float], responded: Sequence[float], tried: Sequence[float],
    families: Sequence[str], *, resamples: int = 400, seed: int = 0,
) -> Response:  # fmt: skip
    """Fit a curve to items and resample their families for intervals.

    Items of dose 0 say how often something responds by chance; they have no place on a
    logarithmic axis and are left out.

    Args:
        doses: Of every item.
        responded: How many of its trials responded.
        tried: How many trials it had.
        families: Items of one family are resampled together.
        resamples: Bootstrap resamples.
        seed: Of the resampling.

    Raises:
        ValueError: If fewer than two positive doses are given.
    """
    dose, hits, trials = (np.asarray(v, np.float64) for v in (doses, responded, tried))
    kept = dose > 0
    if len(np.unique(dose[kept])) < 2:
        raise ValueError("a dose-response curve needs at least two positive doses")
    x, hits, trials = np.log2(dose[kept]), hits[kept], trials[kept]
    names = np.asarray(families)[kept]
    own = _curve(x, hits, trials)
    rng = np.random.default_rng(seed)
    groups = [np.flatnonzero(names == name) for name in np.unique(names)]
    drawn = []
    for _ in range(resamples):
        rows = np.concatenate([groups[i] for i in rng.integers(len(groups), size=len(groups))])
        drawn.append(_curve(x[rows], hits[rows], trials[rows]))
    slopes = np.array([slope for _, slope in drawn])
    effective = {}
    for percent in (10, 50, 90):
        values = np.array([_dose_at(curve, percent) for curve in drawn])
        effective[percent] = _estimate(_dose_at(own, percent), values)
    return Response(_estimate(own[1], slopes), effective, _crossed(x, hits / trials))


def _curve(x: Array, hits: Array, trials: Array, ridge: float = 0.02) -> tuple[float, float]:
    """Return intercept and slope: penalized maximum likelihood, by Newton's method.

    The weak penalty on the slope keeps it finite where doses separate the responses entirely.
    """
    centre = x.mean()
    design = np.stack([np.ones_like(x), x - centre], 1)
    beta, penalty = np.zeros(2), np.diag([1e-4, ridge])
    for _ in range(100):
        p = _sigmoid(design @ beta)
        gradient = design.T @ (hits - trials * p) - penalty @ beta
        weights = np.maximum(trials * p * (1 - p), 1e-9)
        step = np.linalg.solve(design.T @ (design * weights[:, None]) + penalty, gradient)
        step *= min(1.0, 2.0 / max(1e-12, float(np.abs(step).max())))
        beta += step
        if np.abs(step).max() < 1e-9:
            break
    return float(beta[0] - beta[1] * centre), float(beta[1])


def _dose_at(curve: tuple[float, float], percent: int) -> float:
    intercept, slope = curve
    if slope <= 1e-6:
        return float("inf")
    share = percent / 100
    exponent = (np.log(share / (1 - share)) - intercept) / slope
    return float(2.0**exponent) if exponent < 60 else float("inf")


def _crossed(x: Array, shares: Array) -> dict[int, bool]:
    means = [shares[x == value].mean() for value in np.unique(x)]
    return {p: bool(min(means) <= p / 100 <= max(means)) for p in (10, 50, 90)}


def _estimate(value: float, resampled: Array) -> Estimate:
    low, high = np.quantile(resampled, (0.025, 0.975), method="inverted_cdf")
    return Estimate(value, float(low), float(high))


def _sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-np.clip(x, -60, 60)))
