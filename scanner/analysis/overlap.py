"""Overlap of maps and masks with the memorized region.

``oracle`` follows the published protocol: ReLU, bilinear to the truth's size, log1p, one min-max
over the whole pool, 101 thresholds, each measure at its own best threshold on the very maps it
is measured on. It flatters every method; it is here for comparison with published numbers.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

THRESHOLDS = np.linspace(-1e-6, 1 + 1e-6, 101)


@dataclass(frozen=True, slots=True)
class Overlap:
    """Agreement of masks with the truth.

    Attributes:
        maps: How many.
        iou: Pooled intersection over pooled union.
        miou: Mean over maps of intersection over union; two empty masks count 1.
        accuracy: Share of all pixels that agree.
    """

    maps: int
    iou: float
    miou: float
    accuracy: float


def bilinear(values: Floats, height: int, width: int) -> Floats:
    """Return a map at another size, pixel centres half a pixel in, edges repeated."""
    rows, columns = values.shape
    if (rows, columns) == (height, width):
        return values
    return _taps(rows, height) @ values @ _taps(columns, width).T


@dataclass(frozen=True, slots=True)
class Sweep:
    """The published protocol's measures at each of `THRESHOLDS`, ``(101,)`` each.

    Attributes:
        maps: How many.
        iou: Pooled intersection over pooled union.
        miou: Mean over maps of intersection over union.
        accuracy: Share of all pixels that agree.
    """

    maps: int
    iou: Floats
    miou: Floats
    accuracy: Floats

    def best(self) -> Overlap:
        """Return each measure at its own best threshold: the oracle."""
        best = (float(v.max()) for v in (self.iou, self.miou, self.accuracy))
        return Overlap(self.maps, *best)


def sweep(
    maps: Iterable[Floats], truths: Iterable[Bools], prepare: Callable[[Floats], Floats]
) -> Sweep:
    """Measure signed maps by the published protocol at all of its thresholds.

    Args:
        maps: Signed, each ``(h, w)``; gone through twice.
        truths: Each ``(H, W)``.
        prepare: What is done to a map first, such as `scanner.masks.mean_filtered`.

    Returns:
        NaN everywhere if there are no maps.
    """
    truths = list(truths)
    inter, union = counts(maps, truths, prepare)
    if not truths:
        nothing = np.full(len(THRESHOLDS), np.nan)
        return Sweep(0, nothing, nothing, nothing)
    sizes = sum(truth.size for truth in truths)
    both, either = inter.sum(0), union.sum(0)
    miou = _ratio(inter, union).mean(0)
    return Sweep(len(truths), _ratio(both, either), miou, 1 - (either - both) / sizes)


def counts(
    maps: Iterable[Floats], truths: Iterable[Bools], prepare: Callable[[Floats], Floats]
) -> tuple[Floats, Floats]:
    """Return the pixels in the intersection and in the union of each map, ``(maps, 101)`` each.

    The arguments are those of `sweep`; their scale is that of all maps together.
    """
    maps, truths = list(maps), list(truths)
    low, high = np.inf, -np.inf
    for values, truth in zip(maps, truths, strict=True):
        lit = _above(prepare(values), truth)
        low, high = min(low, float(lit.min())), max(high, float(lit.max()))
    inter, union = np.zeros((2, len(maps), len(THRESHOLDS)))
    for place, (values, truth) in enumerate(zip(maps, truths, strict=True)):
        scaled = (_above(prepare(values), truth) - low) / (high - low + 1e-8)
        inter[place], union[place] = _overlaps(scaled, truth)
    return inter, union


def agreement(masks: Iterable[Bools], truths: Iterable[Bools]) -> Overlap:
    """Measure masks as they are; each of its truth's shape."""
    both, either, sizes, ratios = 0, 0, 0, []
    for mask, truth in zip(masks, truths, strict=True):
        inter, union = int((mask & truth).sum()), int((mask | truth).sum())
        both, either, sizes = both + inter, either + union, sizes + truth.size
        ratios.append(inter / union if union else 1.0)
    if not ratios:
        return Overlap(0, np.nan, np.nan, np.nan)
    pooled = both / either if either else 1.0
    return Overlap(len(ratios), pooled, float(np.mean(ratios)), 1 - (either - both) / sizes)


def _above(values: Floats, truth: Bools) -> Floats:
    return np.log1p(bilinear(np.maximum(values, 0), *truth.shape))


def _overlaps(scaled: Floats, truth: Bools) -> tuple[Floats, Floats]:
    """Return intersection and union at every threshold, from two histograms."""
    passed = np.searchsorted(THRESHOLDS, scaled.ravel(), side="left")
    predicted = _at_least(passed)
    both = _at_least(passed[truth.ravel()])
    return both, predicted + truth.sum() - both


def _at_least(passed: NDArray[np.intp]) -> Floats:
    counts = np.bincount(passed, minlength=len(THRESHOLDS) + 1)
    return np.cumsum(counts[::-1])[::-1][1:].astype(np.float64)


def _ratio(inter: Floats, union: Floats) -> Floats:
    return np.divide(inter, union, out=np.ones_like(inter), where=union > 0)


@lru_cache(maxsize=64)
def _taps(size: int, wanted: int) -> Floats:
    source = np.maximum((np.arange(wanted) + 0.5) * size / wanted - 0.5, 0)
    first = np.minimum(source.astype(int), size - 1)
    second = np.minimum(first + 1, size - 1)
    share = source - first
    taps = np.zeros((wanted, size))
    np.add.at(taps, (np.arange(wanted), first), 1 - share)
    np.add.at(taps, (np.arange(wanted), second), share)
    return taps
