"""The tail model, and that what it and its neighbours promise comes true on known distributions."""

import math

import numpy as np
import pytest

from scanner import tail
from scanner.calibration import Calibration, benjamini_hochberg

GPD = [(-0.3, 2.0), (0.0, 1.0), (0.2, 3.0), (0.6, 0.5)]


def draw(rng, shape: float, scale: float, size) -> np.ndarray:
    u = rng.random(size)
    return -scale * np.log(u) if shape == 0 else scale * (u**-shape - 1) / shape


@pytest.mark.parametrize(("shape", "scale"), GPD)
def test_the_fit_is_the_likeliest_there_is(shape, scale):
    y = np.sort(draw(np.random.default_rng(1), shape, scale, 200))
    found = [float(v[0]) for v in tail.maximum_likelihood(y[None])]

    def likelihood(xi, s):
        grown = 1 + xi * y / s
        return -math.inf if grown.min() <= 0 else -200 * math.log(s) - (1 + 1 / xi) * np.log(
            grown
        ).sum()  # fmt: skip

    grid = [
        (xi, s)
        for xi in np.linspace(-0.5, 1.2, 171) + 1e-4
        for s in scale * np.geomspace(0.4, 2.5, 120)
    ]
    best = max(likelihood(*pair) for pair in grid)
    assert likelihood(*found) >= best - 1e-3
    assert found[0] == pytest.approx(shape, abs=4 * (1 + shape) / math.sqrt(200))


def test_a_batch_of_fits_is_its_fits_one_by_one():
    rng = np.random.default_rng(2)
    rows = np.stack([np.sort(draw(rng, shape, scale, 80)) for shape, scale in GPD])
    together = tail.maximum_likelihood(rows)
    for i, row in enumerate(rows):
        alone = tail.maximum_likelihood(row[None])
        assert [v[0] for v in alone] == pytest.approx([v[i] for v in together], rel=1e-9)


def test_standard_errors_are_the_spread_of_the_fits():
    rng = np.random.default_rng(3)
    fitted, _ = tail.fit(np.sort(draw(rng, 0.2, 3.0, 1000)))
    assert fitted is not None
    shapes, scales = tail.maximum_likelihood(np.sort(draw(rng, 0.2, 3.0, (500, 100)), axis=1))
    assert fitted.shape_error == pytest.approx(shapes.std(), rel=0.2)
    assert fitted.scale_error / fitted.scale == pytest.approx(scales.std() / 3.0, rel=0.25)
    # Of the survival at one far score, too: the spread of its logarithm over the same fits.
    far = fitted.threshold + 4 * fitted.scale
    at = 4 * 3.0
    logs = -np.log1p(shapes * at / scales) / shapes
    spread = math.hypot(logs.std(), 0.1)
    assert fitted.log_error(far) == pytest.approx(spread, rel=0.35)


def test_what_is_not_generalized_pareto_gets_no_tail():
    rng = np.random.default_rng(4)
    lumps = np.concatenate([rng.random(900), 5 + 0.01 * rng.random(60), 50 + rng.random(40)])
    found, why = tail.fit(np.sort(lumps))
    assert found is None
    assert "the highest 100 do not fit (p = 0.0" in why
    found, why = tail.fit(np.sort(np.round(rng.exponential(size=1000))))
    assert found is None
    assert "too often the same" in why
    assert tail.fit([1.0] * 499) == (None, "499 null scores are too few: 500 at least")


def test_a_tail_joins_the_conformal_p_values_and_stays_above_its_floor():
    fitted, why = tail.fit(np.sort(np.random.default_rng(5).exponential(size=1000)))
    assert fitted is not None
    assert why == "generalized Pareto above the highest 10% of null scores"
    assert fitted.p_value(fitted.threshold) == pytest.approx(101 / 1001)
    assert fitted.p_value(1e12) == fitted.floor == pytest.approx(1 / 100_100)
    for score in np.linspace(fitted.threshold, 40, 50):
        assert fitted.p_value(score) >= fitted.estimate(score)
    with pytest.raises(ValueError, match="the tail begins at"):
        fitted.p_value(fitted.threshold - 1)


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
def test_realized_false_positive_rates_are_at_or_under_nominal(name, monkeypatch):
    """The rate is exact for each threshold; only the null scores behind it are drawn."""
    monkeypatch.setattr(tail, "BOOTSTRAP", 39)
    rng, (drawn, survival) = np.random.default_rng(6), DISTRIBUTIONS[name]
    rates = {0.01: [], 0.002: [], 0.001: [], 0.0002: [], 0.00005: []}
    for _ in range(16):
        scores = tuple(np.sort(drawn(rng, 600)).tolist())
        fitted, _ = tail.fit(scores)
        c = Calibration("m", "s", scores, {}, 0.01, 600, "", tail=fitted)
        for nominal, realized in rates.items():
            level = c.threshold(nominal)
            realized.append(0.0 if math.isinf(level) else survival(level))
    for nominal, realized in rates.items():
        error = np.std(realized) / math.sqrt(len(realized))
        assert np.mean(realized) <= nominal + 3 * error, (nominal, np.mean(realized))
        if nominal >= 1 / 601:  # conformal: neither more nor much less than was asked for
            assert np.mean(realized) >= 0.6 * nominal - 3 * error


def test_realized_false_discovery_rates_are_at_or_under_nominal(monkeypatch):
    monkeypatch.setattr(tail, "BOOTSTRAP", 39)
    rng, shares, found = np.random.default_rng(7), {"conformal": [], "tail": []}, []
    for _ in range(50):
        scores = tuple(np.sort(rng.exponential(size=600)).tolist())
        nulls, copies = rng.exponential(size=300), 7 + rng.exponential(size=20)
        fitted = tail.fit(scores)[0]
        for kind, model in (("conformal", None), ("tail", fitted)):
            c = Calibration("m", "s", scores, {}, 0.01, 600, "", tail=model)
            p = np.array([c.p_value(x) for x in np.concatenate([nulls, copies])])
            cutoff = benjamini_hochberg(p, 0.1)
            false, true = int((p[:300] <= cutoff).sum()), int((p[300:] <= cutoff).sum())
            shares[kind].append(false / max(1, false + true))
            found.append(true)
    for kind, realized in shares.items():
        error = np.std(realized) / math.sqrt(len(realized))
        assert np.mean(realized) <= 0.1 + 3 * error, kind
    assert np.mean(found) > 5
