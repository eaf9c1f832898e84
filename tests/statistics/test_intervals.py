"""Exact intervals against sums and integrals written down directly."""

import math

import numpy as np
import pytest

from scanner.statistics.intervals import (
    allowed,
    beta_quantile,
    clopper_pearson,
    needed,
    positives_needed,
    realized,
    recall_bound,
)  # fmt: skip


@pytest.mark.parametrize(("a", "b"), [(1, 1), (1, 99), (99, 1), (3, 7), (10, 991), (500, 500)])
@pytest.mark.parametrize("level", [0.025, 0.05, 0.5, 0.975])
def test_a_beta_quantile_cuts_off_its_share_of_the_density(a, b, level):
    x = np.linspace(0, 1, 400_001)[1:-1]
    log = (a - 1) * np.log(x) + (b - 1) * np.log1p(-x)
    density = np.exp(log - log.max())
    below = np.cumsum(density) / density.sum()
    assert beta_quantile(level, a, b) == pytest.approx(np.interp(level, below, x), abs=1e-5)


@pytest.mark.parametrize("arguments", [(0, 1, 1), (1, 1, 1), (0.5, 0, 1), (0.5, 1, 0)])
def test_what_is_no_beta_distribution_is_refused(arguments):
    with pytest.raises(ValueError, match="a and b be 1 or more"):
        beta_quantile(*arguments)


@pytest.mark.parametrize(("hits", "number"), [(0, 180), (180, 180), (1, 3), (17, 300)])
def test_the_ends_of_an_interval_leave_half_of_the_rest_on_each_side(hits, number):
    low, high = clopper_pearson(hits, number)

    def chance(counts, p):
        return math.fsum(math.comb(number, i) * p**i * (1 - p) ** (number - i) for i in counts)

    if hits:
        assert chance(range(hits, number + 1), low) == pytest.approx(0.025)
    if hits < number:
        assert chance(range(hits + 1), high) == pytest.approx(0.025)
    assert (low, high) != (hits / number, hits / number)


def test_null_scores_that_a_rate_needs_and_allows():
    assert [needed(rate) for rate in (0.05, 0.01, 0.001, 0.0001)] == [19, 99, 999, 9999]
    for rate in (0.3, 0.05, 1 / 7, 0.01, 0.0007):
        number = needed(rate)
        assert 1 / (number + 1) <= rate * (1 + 1e-12)
        assert number == 1 or 1 / number > rate
        assert allowed(rate, number) >= 1
    assert realized(0.01, 98) is None
    low, high = realized(0.01, 99) or (1, 0)
    assert low == pytest.approx(1 - 0.975 ** (1 / 99))
    assert high == pytest.approx(1 - 0.025 ** (1 / 99))


def test_a_recall_that_positives_show():
    assert recall_bound(19, 0) == pytest.approx(0.05 ** (1 / 19))
    assert positives_needed(0.95) == 59
    assert recall_bound(59, 0) >= 0.95 > recall_bound(58, 0)
    norms = np.sort(np.random.default_rng(0).random((2000, 40)), axis=1)
    recall = 1 - norms[:, 2]  # norms are uniform, the third from below is the threshold
    assert np.mean(recall >= recall_bound(40, 2)) == pytest.approx(0.95, abs=0.015)
