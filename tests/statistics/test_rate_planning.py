"""Null captions that a rate takes, and what a calibration supports."""

import numpy as np
import pytest

from scanner.errors import ConfigError
from scanner.statistics import rate_planning as rates
from scanner.statistics.calibration import benjamini_hochberg
from scanner.statistics.intervals import realized


@pytest.mark.parametrize(("rate", "factor"), [(0.05, 1.5), (0.01, 2), (0.003, 3), (0.2, 1.2)])
def test_from_that_number_on_every_calibrations_rate_is_within_the_factor(rate, factor):
    found = rates.null_captions(rate, factor)

    def is_within(number: int) -> bool:
        own = realized(rate, number)
        return own is not None and rate / factor <= own[0] and own[1] <= rate * factor

    step = round(1 / rate)
    assert all(is_within(n) for n in range(found.within, found.within + 3 * step))
    # Fewer are too few, somewhere before the next threshold.
    assert not all(is_within(n) for n in range(found.within - step, found.within))
    assert realized(rate, found.least) is not None
    assert realized(rate, found.least - 1) is None
    assert (found.low, found.high) == realized(rate, found.within)


def test_small_rates_are_planned_in_no_time():
    found = rates.null_captions(1e-6, 1.1)
    assert found.least == 999_999
    assert found.within > 400 * found.least


@pytest.mark.parametrize(
    ("rate", "factor", "said"),
    [(0.0, 2, "between 0 and 1"), (0.01, 1.05, "lies in 1.1..100"), (0.6, 2, "is no rate")],
)
def test_what_cannot_be_had_is_refused(rate, factor, said):
    with pytest.raises(ConfigError, match=said):
        rates.null_captions(rate, factor)


def test_the_smallest_false_discovery_rate_is_where_the_procedure_begins_to_flag():
    least = rates.least_fdr(0.001, 0.02)
    p = np.array([0.001] * 20 + [1.0] * 980)
    assert least == pytest.approx(0.05)
    assert benjamini_hochberg(p, least + 1e-9) == 0.001
    assert benjamini_hochberg(p, least - 1e-9) == -1
    assert rates.least_fdr(0.001, 0.0005) is None


def test_a_share_of_none_is_anything():
    assert (rates.Share.of(0, 0).low, rates.Share.of(0, 0).high) == (0.0, 1.0)
    assert rates.Share.of(9, 10).low == pytest.approx(0.555, abs=0.001)
    assert rates.off_by(0.01, (0.005, 0.03)) == pytest.approx(3)
