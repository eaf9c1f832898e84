"""Detection: how well scores rank memorized captions above others, with intervals over families."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scanner.statistics.intervals import clopper_pearson

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

RATES = {"1%": 0.01, "0.1%": 0.001}
CELLS_AT_ONCE = 4_000_000


@dataclass(frozen=True, slots=True)
class Ranking:
    """Measures of a ranking, each ``(B,)``: one value per set of weights.

    Attributes:
        auc: Chance that a positive outranks a negative, ties half.
        precision: Average precision.
        tpr: By rate, true-positive rate at the last ROC point at or below that false-positive
            rate.
        fpr: By rate, the false-positive rate at that point.
    """

    auc: Floats
    precision: Floats
    tpr: dict[str, Floats]
    fpr: dict[str, Floats]


def is_resolved(rate: float, negatives: int) -> bool:
    """Whether so many negatives can show a false-positive rate other than 0 and still keep it."""
    return rate * negatives >= 1 - 1e-9


def tpr_name(rate: str, negatives: int) -> str:
    """Return what the true-positive rate at a rate of `RATES` is called.

    With fewer than 1 / rate negatives it is the one with no false positive.

    Example:
        >>> tpr_name("0.1%", 180), tpr_name("1%", 180)
        ('TPR with no false positive among 180', 'TPR at 1% FPR')
    """
    if is_resolved(RATES[rate], negatives):
        return f"TPR at {rate} FPR"
    return f"TPR with no false positive among {negatives:,}"


def ranking(scores: Floats, positive: Bools, weights: Floats) -> Ranking:
    """Measure a ranking under each set of weights.

    Args:
        scores: ``(n,)``, higher is more suspicious; finite.
        positive: ``(n,)``.
        weights: ``(B, n)``, how often each caption counts.

    Returns:
        NaN where a set of weights has no positive or no negative.
    """
    order = np.argsort(scores, kind="stable")
    starts = np.flatnonzero(np.diff(scores[order], prepend=-np.inf))
    ordered, is_positive = weights[:, order], positive[order]
    pos = np.add.reduceat(ordered * is_positive, starts, axis=1)[:, ::-1]
    neg = np.add.reduceat(ordered * ~is_positive, starts, axis=1)[:, ::-1]
    positives, negatives = pos.sum(1), neg.sum(1)
    hits, alarms = np.cumsum(pos, 1), np.cumsum(neg, 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        below = negatives[:, None] - alarms
        auc = (pos * (below + neg / 2)).sum(1) / (positives * negatives)
        purity = np.nan_to_num(hits / (hits + alarms))
        precision = (pos * purity).sum(1) / positives
        precision[negatives == 0] = np.nan
        tpr, fpr = {}, {}
        for name, rate in RATES.items():
            points = (alarms / negatives[:, None] <= rate).sum(1)
            last = np.maximum(points - 1, 0)[:, None]
            reached = points > 0
            tpr[name] = reached * np.take_along_axis(hits, last, 1)[:, 0] / positives
            fpr[name] = reached * np.take_along_axis(alarms, last, 1)[:, 0] / negatives
            tpr[name][negatives == 0] = np.nan
            fpr[name][positives == 0] = np.nan
    return Ranking(auc, precision, tpr, fpr)


def family_weights(
    families: NDArray[np.str_], positive: Bools, draws: int, rng: np.random.Generator
) -> Floats:
    """Draw families with replacement, memorized and other ones apart.

    Captions of one family share their fate: to resample them one by one would claim more
    evidence than there is.

    Returns:
        ``(draws, n)``: how often each caption is in each draw.
    """
    weights = np.zeros((draws, len(families)))
    for group in (positive, ~positive):
        if group.any():
            names, member = np.unique(families[group], return_inverse=True)
            counts = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), draws)
            weights[:, group] = counts[:, member]
    return weights


def detection_row(
    scores: Floats,
    positive: Bools,
    families: NDArray[np.str_],
    draws: int,
    rng: np.random.Generator,
) -> dict[str, float | int | list[float]]:
    """Return the measures of one score against one set of negatives, with 95% intervals.

    Intervals are by bootstrap over families. Where nothing is wrong, or everything, resampling has
    no width: then the interval is that of Clopper and Pearson, all of so many families, for a TPR
    of the positive ones, for an AUC of so many independent pairs of both. An average precision of
    1 has none (NaN).

    Args:
        scores: ``(n,)``, finite.
        positive: ``(n,)``.
        families: ``(n,)``, the family of each caption.
        draws: Bootstrap draws; 0 for no intervals (NaN).
        rng: Where the draws come from.
    """
    row: dict[str, float | int | list[float]] = {
        "positives": int(positive.sum()),
        "negatives": int((~positive).sum()),
        "positive_families": len(np.unique(families[positive])),
        "negative_families": len(np.unique(families[~positive])),
    }
    point = _measures(scores, positive, np.ones((1, len(scores))))
    row |= {name: float(values[0]) for name, values in point.items()}
    drawn: dict[str, list[Floats]] = {name: [] for name in point}
    at_once = max(1, CELLS_AT_ONCE // max(1, len(scores)))
    for start in range(0, draws, at_once):
        weights = family_weights(families, positive, min(at_once, draws - start), rng)
        for name, values in _measures(scores, positive, weights).items():
            drawn[name].append(values)
    positives = len(np.unique(families[positive]))
    pairs = min(positives, len(np.unique(families[~positive])))
    for name, number in (
        ("auc", pairs),
        *((f"tpr@{rate}", positives) for rate in RATES),
        ("ap", 0),
    ):
        row[f"{name}_interval"] = _interval(drawn[name], float(point[name][0]), number)
    return row


def _measures(scores: Floats, positive: Bools, weights: Floats) -> dict[str, Floats]:
    if not len(scores):
        nan = np.full(len(weights), np.nan)
        names = [f"{kind}@{rate}" for kind in ("tpr", "fpr") for rate in RATES]
        return dict.fromkeys(["auc", "ap", *names], nan)
    found = ranking(scores, positive, weights)
    return {
        "auc": found.auc,
        "ap": found.precision,
        **{f"tpr@{name}": values for name, values in found.tpr.items()},
        **{f"fpr@{name}": values for name, values in found.fpr.items()},
    }


def _interval(chunks: list[Floats], point: float, number: int) -> list[float]:
    """Return the interval of a measure, of which ``number`` families or pairs are evidence."""
    values = np.concatenate(chunks) if chunks else np.empty(0)
    if not len(values) or np.isnan(values).any() or (point in (0, 1) and not number):
        return [float("nan"), float("nan")]
    if point in (0, 1):
        return list(clopper_pearson(number if point else 0, number))
    return [float(x) for x in np.quantile(values, [0.025, 0.975])]
