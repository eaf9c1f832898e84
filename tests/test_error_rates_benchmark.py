"""What conformal p-values promise comes true on known distributions."""

import math

import numpy as np
import pytest

from scanner.statistics import intervals
from scanner.statistics.calibration import Calibration, benjamini_hochberg


def survival_of_lognormal(x: float) -> float:
    return 0.5 * math.erfc(math.log(x) / math.sqrt(2))


def survival_of_mixture(x: float) -> float:
    bulk = sum(math.exp(-2 * x) * (2 * x) ** i / math.factorial(i) for i in range(4))
    return 0.02 * (math.exp(-(x - 5) / 2) if x > 5 else 1) + 0.98 * bulk


DISTRIBUTIONS = {
    "exponential": (lambda rng, n: rng.exponential(size=n), lambda x: math.exp(-x)),
    "lognormal": (lambda rng, n: np.exp(rng.normal(size=n)), survival_of_lognormal),
    "squared normal": (lambda rng, n: rng.normal(size=n) ** 2, lambda x: math.erfc((x / 2) ** 0.5)),
    "power": (lambda rng, n: rng.random(n) ** -0.25, lambda x: x**-4.0),
    "bounded": (lambda rng, n: rng.random(n), lambda x: max(0.0, 1 - x)),
    "mixture": (
        lambda rng, n: np.where(
            rng.random(n) < 0.02, 5 + rng.exponential(2, n), rng.gamma(4, 0.5, n)
        ),
        survival_of_mixture,
    ),
}
"""How null scores are drawn, and the chance that one exceeds x."""


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_realized_false_positive_rates_are_at_or_under_nominal(name):
    """The rate is exact for each threshold; only the null scores behind it are drawn."""
    rng, (drawn, survival) = np.random.default_rng(6), DISTRIBUTIONS[name]
    rates = {0.01: [], 0.002: [], 0.001: [], 0.0002: [], 0.00005: []}
    for _ in range(40):
        scores = tuple(np.sort(drawn(rng, 600)).tolist())
        c = Calibration("m", "s", scores, {}, 0.01, 600, "")
        for nominal, realized in rates.items():
            level = c.threshold(nominal)
            realized.append(0.0 if math.isinf(level) else survival(level))
    for nominal, realized in rates.items():
        error = np.std(realized) / math.sqrt(len(realized))
        assert np.mean(realized) <= nominal + 3 * error, (nominal, np.mean(realized))
        if nominal >= 1 / 601:  # conformal: neither more nor much less than was asked for
            assert np.mean(realized) >= 0.6 * nominal - 3 * error


def test_one_calibrations_own_rate_is_as_often_in_its_interval_as_is_said():
    """The nominal rate is an average; the interval is of each calibration's own."""
    rng, inside = np.random.default_rng(8), []
    low, high = intervals.realized(0.01, 300) or (1.0, 0.0)
    for _ in range(1000):
        scores = tuple(np.sort(rng.exponential(size=300)).tolist())
        own = math.exp(-Calibration("m", "s", scores, {}, 0.01, 300, "").threshold(0.01))
        inside.append(low <= own <= high)
    assert np.mean(inside) == pytest.approx(0.95, abs=0.021)  # three standard errors


def test_realized_false_discovery_rates_are_at_or_under_nominal():
    rng, shares, found = np.random.default_rng(7), [], []
    for _ in range(50):
        scores = tuple(np.sort(rng.exponential(size=600)).tolist())
        nulls, copies = rng.exponential(size=300), 7 + rng.exponential(size=20)
        c = Calibration("m", "s", scores, {}, 0.01, 600, "")
        p = np.array([c.p_value(x) for x in np.concatenate([nulls, copies])])
        cutoff = benjamini_hochberg(p, 0.1)
        false, true = int((p[:300] <= cutoff).sum()), int((p[300:] <= cutoff).sum())
        shares.append(false / max(1, false + true))
        found.append(true)
    error = np.std(shares) / math.sqrt(len(shares))
    assert np.mean(shares) <= 0.1 + 3 * error
    assert np.mean(found) > 5
