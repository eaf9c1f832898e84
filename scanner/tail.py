"""A model of the far tail of null scores, for p-values below what so many scores can give.

Above a high threshold u the excess y = x - u of almost any distribution is nearly generalized
Pareto, with survival ``(1 + shape * y / scale) ** (-1 / shape)`` (Pickands 1975; Coles 2001,
chapter 4). With k of n null scores above u, a new score exceeds u with probability
``(k + 1) / (n + 1)`` and x with that times the survival of its excess.

Extrapolation is trusted little: it is the upper confidence bound of the survival that counts (95%,
by profile likelihood), no tail is believed to be lighter than an exponential one, and none is
followed further than `REACH` times below ``1 / (n + 1)``. Where the excesses are few or do not
fit, there is no tail.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

SHARES = (0.1, 0.05)
"""The threshold leaves this share of the null scores above it: the first that fits."""
LEAST, MOST = 50, 500
"""Excesses that a fit needs, and that it takes at most."""
LEAST_FIT_P = 0.1
"""A fit is refused if so good a fit has less than this chance."""
REACH = 100.0
"""A tail is followed down to ``1 / (REACH * (n + 1))``."""
BOOTSTRAP = 499
NUM_BOUNDS = 50
"""Shapes at which the edge of the confidence region is looked for."""
SHORTEST = -0.5
"""The least shape looked at: below it, maximum likelihood does not behave."""
_DROP = 1.3528
"""Log-likelihood that a one-sided 95% bound gives away: half the 0.9 quantile of chi-square(1)."""


@dataclass(frozen=True, slots=True)
class Tail:
    """A generalized Pareto fit to the highest null scores.

    Attributes:
        threshold: The score u above which it holds.
        exceedances: Null scores above u, k.
        captions: All null scores, n.
        shape: Of the fit; above 0 the tail falls like a power, at 0 exponentially.
        scale: Of the fit, score units.
        shape_error: Standard error of the shape, from the expected information.
        scale_error: The same of the scale.
        anderson_darling: Distance of the excesses from the fit.
        fit_p: Chance of a larger distance if the excesses were generalized Pareto, by parametric
            bootstrap with the fit repeated.
        bounds: (shape, scale) pairs; at every excess the highest of their survivals is the upper
            95% confidence bound.
    """

    threshold: float
    exceedances: int
    captions: int
    shape: float
    scale: float
    shape_error: float
    scale_error: float
    anderson_darling: float
    fit_p: float
    bounds: tuple[tuple[float, float], ...]

    @property
    def floor(self) -> float:
        """The smallest p-value given: ``1 / (REACH * (n + 1))``."""
        return 1 / (REACH * (self.captions + 1))

    def estimate(self, score: float) -> float:
        """Return the fitted chance that a null score exceeds this one; unbounded below.

        Raises:
            ValueError: If the score is not above the threshold.
        """
        return self._rate * _survival(self._excess(score), self.shape, self.scale)

    def log_error(self, score: float) -> float:
        """Return the standard error of the estimate's logarithm (delta method).

        Infinite where the fit ends below the score.

        Raises:
            ValueError: If the score is not above the threshold.
        """
        y, steps = self._excess(score), (1e-4, 1e-4 * self.scale)

        def slope(by_shape: float, by_scale: float) -> float:
            ends = [
                _log_survival(np.array(y), np.array(self.shape + by), np.array(self.scale + more))
                for by, more in ((by_shape, by_scale), (-by_shape, -by_scale))
            ]
            return float(ends[0] - ends[1]) / (2 * (by_shape + by_scale))

        if 1 + (self.shape - steps[0]) * y / self.scale <= 0:
            return math.inf
        gradient = np.array([slope(steps[0], 0), slope(0, steps[1])])
        covariance = _covariance(self.shape, self.scale, self.exceedances)
        return float(np.sqrt(gradient @ covariance @ gradient + 1 / self.exceedances))

    def p_value(self, score: float) -> float:
        """Return the upper confidence bound of the chance that a null score exceeds this one.

        Never below `floor`.

        Raises:
            ValueError: If the score is not above the threshold.
        """
        y = self._excess(score)
        bound = max(_survival(y, shape, scale) for shape, scale in self.bounds)
        return max(self.floor, self._rate * bound)

    def score_at(self, p: float) -> float:
        """Return the lowest score whose p-value is at most ``p``; infinite below `floor`."""
        if p < self.floor:
            return math.inf
        low, high = 0.0, self.scale
        while self.p_value(self.threshold + high) > p:
            high *= 2
        while high - low > 1e-12 * high:
            middle = (low + high) / 2
            if self.p_value(self.threshold + middle) > p:
                low = middle
            else:
                high = middle
        return self.threshold + high

    @property
    def _rate(self) -> float:
        return (self.exceedances + 1) / (self.captions + 1)

    def _excess(self, score: float) -> float:
        if not score >= self.threshold:
            raise ValueError(f"the tail begins at {self.threshold}, got {score}")
        return score - self.threshold


def fit(scores: Sequence[float], seed: int = 0) -> tuple[Tail | None, str]:
    """Fit a tail to null scores.

    The threshold is the score that leaves the first of `SHARES` above it (at most `MOST` scores)
    with excesses that a generalized Pareto distribution fits.

    Args:
        scores: Null scores, ascending.
        seed: Of the bootstrap behind the goodness of fit.

    Returns:
        The tail, or null; and how it came about, or why there is none.
    """
    values, tried = np.asarray(scores, np.float64), list[str]()
    for share in SHARES:
        count = min(int(share * len(values)), MOST)
        if count < LEAST:
            break
        threshold = float(values[-count - 1])
        excesses = values[-count:] - threshold
        if len(np.unique(excesses)) < count / 2 or excesses[0] <= 0:
            tried.append(f"the highest {count} are too often the same")
            continue
        tail = _fitted(threshold, excesses, len(values), seed)
        if tail.fit_p >= LEAST_FIT_P:
            return tail, f"generalized Pareto above the highest {share:.0%} of null scores"
        tried.append(f"the highest {count} do not fit (p = {tail.fit_p:.3f})")
    if not tried:
        return None, f"{len(values)} null scores are too few: {round(LEAST / SHARES[0])} at least"
    return None, "; ".join(tried)


def _fitted(threshold: float, excesses: Floats, captions: int, seed: int) -> Tail:
    shape, scale = (float(v[0]) for v in maximum_likelihood(excesses[None]))
    distance = float(_anderson_darling(excesses[None], np.array([shape]), np.array([scale]))[0])
    rng = np.random.default_rng(seed)
    drawn = np.sort(_quantile(rng.random((BOOTSTRAP, len(excesses))), shape, scale), axis=1)
    larger = _anderson_darling(drawn, *maximum_likelihood(drawn)) >= distance
    variances = np.diag(_covariance(shape, scale, len(excesses)))
    shape_error, scale_error = (float(v) for v in np.sqrt(variances))
    return Tail(
        threshold, len(excesses), captions, shape, scale, shape_error, scale_error, distance,
        (1 + int(larger.sum())) / (1 + BOOTSTRAP), _bounds(excesses, shape, scale),
    )  # fmt: skip


def maximum_likelihood(excesses: Floats) -> tuple[Floats, Floats]:
    """Fit each row by maximum likelihood over shapes from `SHORTEST` up.

    The scale is profiled out by t = shape / scale: given t, the best shape is the mean of
    ``log(1 + t y)`` (Grimshaw 1993). The profile is searched on a grid that is refined three times.

    Args:
        excesses: ``(B, k)``, positive.

    Returns:
        Shapes and scales, ``(B,)`` each.
    """
    # In u = t * mean: t must exceed -1 / max, and a t of 20 / mean is a shape beyond any use.
    mean, top = excesses.mean(1), excesses.max(1)
    scaled = excesses / mean[:, None]
    low, high = -0.999 * mean / top, np.full(len(excesses), 20.0)
    best = np.zeros(len(excesses))
    grid = np.concatenate([np.linspace(-1, 0, 24), np.geomspace(1e-3, 1, 40)])
    for _ in range(4):
        below, above = np.minimum(low, best), np.maximum(high, best)
        span = np.where(grid < 0, (best - below)[:, None], (above - best)[:, None])
        places = best[:, None] + grid * span
        values = np.stack([_profile(scaled, t) for t in places.T], axis=1)
        at = np.argmax(values, axis=1)
        rows = np.arange(len(excesses))
        last = places.shape[1] - 1
        low, high = places[rows, np.maximum(at - 1, 0)], places[rows, np.minimum(at + 1, last)]
        best = places[rows, at]
    shape = _shape(scaled, best)
    scale = np.where(np.abs(best) < 1e-9, 1.0, shape / np.where(best == 0, 1, best))
    return shape, scale * mean


def _shape(excesses: Floats, t: Floats) -> Floats:
    return np.log1p(t[:, None] * excesses).mean(1)


def _profile(excesses: Floats, t: Floats) -> Floats:
    """Return the mean log-likelihood at the best shape for t; rows have mean 1."""
    shape = _shape(excesses, t)
    is_flat = np.abs(t) < 1e-9
    with np.errstate(divide="ignore", invalid="ignore"):
        value = -np.log(np.where(is_flat, 1, shape / t)) - np.where(is_flat, 0, shape) - 1
    return np.where(shape < SHORTEST, -np.inf, value)


def _bounds(excesses: Floats, shape: float, scale: float) -> tuple[tuple[float, float], ...]:
    """Return the upper edge of the confidence region: for each shape from 0 up, the largest scale.

    What maximizes a quantity over the region of log-likelihoods within `_DROP` of the best is
    its profile-likelihood bound. Shape 0 is always among them.
    """
    least = _likelihood(excesses, shape, scale) - _DROP
    flat = float(excesses.mean())
    edge = [(0.0, _largest_scale(excesses, 0.0, flat, _likelihood(excesses, 0.0, flat) - _DROP))]
    reach = max(shape, 0) + 5 * math.sqrt(_covariance(shape, scale, len(excesses))[0, 0])
    for candidate in map(float, np.linspace(0, reach, NUM_BOUNDS)[1:]):
        peak = _best_scale(excesses, candidate)
        if _likelihood(excesses, candidate, peak) >= least:
            edge.append((candidate, _largest_scale(excesses, candidate, peak, least)))
    return tuple(edge)


def _likelihood(excesses: Floats, shape: float, scale: float) -> float:
    if abs(shape) < 1e-9:
        return float(-len(excesses) * math.log(scale) - excesses.sum() / scale)
    grown = 1 + shape * excesses / scale
    if grown.min() <= 0:
        return -math.inf
    return float(-len(excesses) * math.log(scale) - (1 + 1 / shape) * np.log(grown).sum())


def _best_scale(excesses: Floats, shape: float) -> float:
    """Return the likeliest scale at a positive shape: the root of a decreasing score function."""
    low, high = 0.0, 4 * float(excesses.max())
    for _ in range(60):
        middle = (low + high) / 2
        pull = (1 + shape) * (excesses / (middle + shape * excesses)).mean()
        low, high = (middle, high) if pull > 1 else (low, middle)
    return high


def _largest_scale(excesses: Floats, shape: float, peak: float, least: float) -> float:
    low = high = peak
    while _likelihood(excesses, shape, high) > least:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        is_inside = _likelihood(excesses, shape, middle) > least
        low, high = (middle, high) if is_inside else (low, middle)
    return high


def _covariance(shape: float, scale: float, number: int) -> Floats:
    """Return the asymptotic covariance of shape and scale (Smith 1987), for shapes above -1/2."""
    grown = 1 + max(shape, SHORTEST + 0.01)
    return np.array([[grown**2, -grown * scale], [-grown * scale, 2 * grown * scale**2]]) / number


def _anderson_darling(excesses: Floats, shape: Floats, scale: Floats) -> Floats:
    """Return each row's Anderson-Darling distance; rows ascending, ``(B, k)``."""
    log_survival = _log_survival(excesses, shape[:, None], scale[:, None])
    log_survival = np.minimum(log_survival, -1e-15)
    log_below = np.log(-np.expm1(log_survival))
    k = excesses.shape[1]
    weights = 2 * np.arange(1, k + 1) - 1
    return -k - (weights * (log_below + log_survival[:, ::-1])).mean(1)


def _log_survival(excesses: Floats, shape: Floats, scale: Floats) -> Floats:
    is_flat = np.abs(shape) < 1e-9
    safe = np.where(is_flat, 1, shape)
    grown = np.maximum(1 + safe * excesses / scale, 1e-300)
    return np.where(is_flat, -excesses / scale, -np.log(grown) / safe)


def _survival(excess: float, shape: float, scale: float) -> float:
    return float(np.exp(_log_survival(np.array(excess), np.array(shape), np.array(scale))))


def _quantile(uniform: Floats, shape: float, scale: float) -> Floats:
    if abs(shape) < 1e-9:
        return -scale * np.log(uniform)
    return scale * np.expm1(-shape * np.log(uniform)) / shape
