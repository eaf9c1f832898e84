"""Exact intervals of rates that are known from counts.

The share of a continuous distribution that lies above the k-th highest of n independent draws has
the distribution Beta(k, n + 1 - k), whatever the distribution is (David and Nagaraja, Order
Statistics, 2003, chapter 2). The Clopper-Pearson interval of a binomial rate has Beta quantiles as
ends too. With whole parameters these are sums of binomial terms.
"""

import math

LEVEL = 0.95
"""Confidence of every interval and bound, unless another is asked for."""
_STEPS = 60
"""Halvings of [0, 1]: more than a float64 has digits for."""


def beta_quantile(level: float, a: int, b: int) -> float:
    """Return the value that a Beta(a, b) variable is at most with probability ``level``.

    Args:
        level: Between 0 and 1.
        a: First parameter, at least 1.
        b: Second parameter, at least 1.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> round(beta_quantile(0.05, 59, 1), 4)
        0.9505
    """
    if not (0 < level < 1 and a >= 1 and b >= 1):
        raise ValueError(f"level must lie between 0 and 1, a and b be 1 or more: {level}, {a}, {b}")
    if a > b:  # the shorter of both sums
        return 1 - beta_quantile(1 - level, b, a)
    number = a + b - 1
    counts = range(a)
    logs = [
        math.lgamma(number + 1) - math.lgamma(i + 1) - math.lgamma(number - i + 1) for i in counts
    ]
    low, high = 0.0, 1.0
    for _ in range(_STEPS):
        middle = (low + high) / 2
        hit, miss = math.log(middle), math.log1p(-middle)
        # P(Beta(a, b) > x) = P(Binomial(a + b - 1, x) < a)
        above = math.fsum(math.exp(logs[i] + i * hit + (number - i) * miss) for i in counts)
        low, high = (middle, high) if above > 1 - level else (low, middle)
    return high


def clopper_pearson(hits: int, number: int, level: float = LEVEL) -> tuple[float, float]:
    """Return the two-sided interval of a rate of which ``hits`` of ``number`` draws were seen.

    Args:
        hits: How many, 0 to ``number``.
        number: Of how many, at least 1.
        level: Confidence.

    Example:
        >>> [round(end, 4) for end in clopper_pearson(0, 180)]
        [0.0, 0.0203]
    """
    side = (1 - level) / 2
    return (
        beta_quantile(side, hits, number + 1 - hits) if hits else 0.0,
        beta_quantile(1 - side, hits + 1, number - hits) if hits < number else 1.0,
    )


def allowed(rate: float, number: int) -> int:
    """Return how many of ``number`` + 1 equally likely places a share ``rate`` holds.

    Float error decides nothing: 0.1 of 10 is 1. A null score's rank k passes at a false-positive
    rate if ``k / (number + 1) <= rate``.
    """
    return math.floor(rate * (number + 1) * (1 + 1e-12))


def needed(rate: float) -> int:
    """Return how many null scores give a p-value of ``rate``: the least n with 1/(n+1) <= rate.

    Example:
        >>> needed(0.01), needed(0.0001)
        (99, 9999)
    """
    return max(1, math.ceil(1 / rate * (1 - 1e-12)) - 1)


def realized(rate: float, number: int, level: float = LEVEL) -> tuple[float, float] | None:
    """Return between what the false-positive rate of one calibration lies.

    Nominal rates hold on average over calibrations. The rate of the one at hand, at the threshold
    that ``number`` null scores give, is Beta distributed; this is its central interval. Null scores
    that are tied lower the rate.

    Args:
        rate: Nominal false-positive rate.
        number: Independent null scores.
        level: Probability of the interval.

    Returns:
        Both ends; null if so few null scores flag nothing at this rate.
    """
    if (k := allowed(rate, number)) < 1:
        return None
    k, side = min(k, number), (1 - level) / 2
    return beta_quantile(side, k, number + 1 - k), beta_quantile(1 - side, k, number + 1 - k)


def recall_bound(positives: int, dropped: int, level: float = LEVEL) -> float:
    """Return the recall that a screen has at least, with confidence ``level``.

    The screen's threshold is a positive's norm, ``dropped`` of the positives are below it.

    Args:
        positives: Independent memorized captions that the threshold was fitted on.
        dropped: How many of them are below it, fewer than ``positives``.
        level: Confidence.

    Example:
        >>> round(recall_bound(19, 0), 3), round(recall_bound(59, 0), 3)
        (0.854, 0.95)
    """
    return beta_quantile(1 - level, positives - dropped, dropped + 1)


def positives_needed(recall: float, level: float = LEVEL) -> int:
    """Return how many positives, none of them dropped, show a recall with confidence ``level``.

    Example:
        >>> positives_needed(0.95), positives_needed(0.9), positives_needed(0.99)
        (59, 29, 299)
    """
    return math.ceil(math.log(1 - level) / math.log(recall))
