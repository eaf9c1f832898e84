"""What it takes to have an error rate: null captions for a false-positive rate, and its limits."""

from dataclasses import dataclass

from scanner.errors import ConfigError
from scanner.statistics.intervals import clopper_pearson, needed, realized

LEAST_FACTOR, MOST_FACTOR = 1.1, 100.0
"""A factor nearer to 1 takes more than 400 null scores above the threshold."""


@dataclass(frozen=True, slots=True)
class Needed:
    """Null captions for a false-positive rate.

    Attributes:
        rate: The rate.
        least: Null captions for the smallest p-value to be the rate: fewer flag nothing.
        factor: How far one calibration's own rate may be off.
        within: Null captions with which it is within that factor, with 95%; more are too.
        low: The lower end of its 95% interval with so many.
        high: The upper end.
    """

    rate: float
    least: int
    factor: float
    within: int
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Share:
    """A share of captions that was counted.

    Attributes:
        hits: How many have it.
        number: Of how many independent ones.
        low: The lower end of the 95% interval (Clopper and Pearson 1934).
        high: The upper end.
    """

    hits: int
    number: int
    low: float
    high: float

    @classmethod
    def of(cls, hits: int, number: int) -> "Share":
        """Return a share with its interval; of none it is anything."""
        low, high = clopper_pearson(hits, number) if number else (0.0, 1.0)
        return cls(hits, number, low, high)


def null_captions(rate: float, factor: float) -> Needed:
    """Return how many null captions a false-positive rate takes.

    The own rate of a calibration at the k-th highest of n scores is Beta(k, n + 1 - k)
    distributed, `scanner.statistics.intervals.realized`. ``within`` is the least n from which on
    its 95% interval lies between ``rate / factor`` and ``rate * factor`` for every n.

    Args:
        rate: Wished false-positive rate, 0 to 1.
        factor: How far off it may be, from `LEAST_FACTOR`.

    Raises:
        ConfigError: If an argument is out of range, or no number of null captions is enough.

    Example:
        >>> found = null_captions(0.01, 2)
        >>> found.least, found.within
        (99, 1399)
    """
    if not 0 < rate < 1:
        raise ConfigError(f"a rate lies between 0 and 1, got {rate:g}")
    if not LEAST_FACTOR <= factor <= MOST_FACTOR:
        raise ConfigError(
            f"a factor that a rate may be off lies in {LEAST_FACTOR:g}..{MOST_FACTOR:g}, "
            f"got {factor:g}"
        )
    if rate * factor >= 1:
        raise ConfigError(f"{factor:g} times a rate of {rate:g} is no rate: take a smaller factor")
    least = most = 1
    while not _is_within(most, rate, factor):
        least, most = most, 2 * most
    while least < most:
        middle = (least + most) // 2
        least, most = (least, middle) if _is_within(middle, rate, factor) else (middle + 1, most)
    number = needed(rate / most)
    low, high = realized(rate, number) or (0.0, 1.0)
    return Needed(rate, needed(rate), factor, number, low, high)


def _is_within(above: int, rate: float, factor: float) -> bool:
    """Whether n null captions are enough, for each n of which so many lie above the threshold.

    These are ``above / rate - 1`` to the last before ``(above + 1) / rate - 1``. The more there
    are, the lower is the rate: the first has the highest upper end, the last the lowest lower one.
    """
    first, last = needed(rate / above), needed(rate / (above + 1)) - 1
    highest, lowest = realized(rate, first), realized(rate, max(first, last))
    if highest is None or lowest is None:
        return False
    return highest[1] <= rate * factor and lowest[0] >= rate / factor


def least_fdr(min_p: float, share: float) -> float | None:
    """Return the smallest false-discovery rate at which a share of captions can be flagged.

    Benjamini and Hochberg's procedure flags captions up to p if ``p <= q * share``, where a share
    of all captions has p-values up to p. So much at least, where these captions are the memorized
    ones and all of them have the smallest p-value.

    Args:
        min_p: The smallest p-value of a calibration.
        share: Of the captions that have it, above 0.

    Returns:
        The rate; null where no rate below 1 is enough.

    Example:
        >>> least_fdr(0.001, 0.01), least_fdr(0.001, 0.0005)
        (0.1, None)
    """
    rate = min_p / share
    return rate if rate < 1 else None


def off_by(rate: float, own: tuple[float, float]) -> float:
    """Return the factor by which a rate may be off whose own one lies in an interval.

    Example:
        >>> off_by(0.01, (0.005, 0.03))
        3.0
    """
    return max(own[1] / rate, rate / own[0])
