"""The distribution of a run's scores, as numbers and as SVG."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import duckdb
import numpy as np
from numpy.typing import NDArray

from scanner.report import svg
from scanner.report.canvas import log_axis
from scanner.report.svg import COLOURS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NUM_BINS = 48


@dataclass(frozen=True, slots=True)
class Histogram:
    """Captions by score; bins are even on a log axis where all scores are positive.

    Attributes:
        edges: ``(bins + 1,)``, in score units.
        clear: Captions that are not flagged, by bin.
        flagged: Captions that are.
        is_log: Whether the axis is logarithmic.
        threshold: Score above which captions are flagged, where it is known.
        null: Null captions by bin, where the calibration is known.
    """

    edges: NDArray[np.float64]
    clear: NDArray[np.int64]
    flagged: NDArray[np.int64]
    is_log: bool
    threshold: float | None
    null: NDArray[np.int64] | None = None

    def __str__(self) -> str:
        captions, flagged = int((self.clear + self.flagged).sum()), int(self.flagged.sum())
        low, high = self.edges[0], self.edges[-1]
        told = f"{captions:,} captions by score, from {low:.3g} to {high:.3g}; {flagged:,} flagged"
        if self.threshold is not None and math.isfinite(self.threshold):
            told += f"; threshold {self.threshold:.4g}"
        return told if self.null is None else f"{told}; beside {self.null.sum():,} null captions"


def histogram(
    con: duckdb.DuckDBPyConnection, threshold: float | None, null_scores: Sequence[float] = ()
) -> Histogram | None:
    """Count a run's captions by mean score; null if none has one.

    Args:
        con: Views of one run.
        threshold: Score above which captions are flagged, where it is known.
        null_scores: Scores of the captions that the run was calibrated with.
    """
    rows = con.execute(
        "SELECT delta_s, coalesce(flagged, false) AS flagged FROM captions WHERE isfinite(delta_s)"
    ).fetchnumpy()
    scores, flagged = np.asarray(rows["delta_s"], float), np.asarray(rows["flagged"], bool)
    if not len(scores):
        return None
    null = np.asarray(null_scores, float)
    is_log = bool((scores > 0).all() and (null > 0).all())
    shown = [scores, null]
    if threshold is not None and math.isfinite(threshold) and (threshold > 0 or not is_log):
        shown.append(np.array([threshold]))
    whole = np.concatenate(shown)
    edges = _edges(np.array([whole.min(), whole.max()]), threshold, is_log=is_log)
    clear, flags, nulls = (
        np.histogram(x, edges)[0] for x in (scores[~flagged], scores[flagged], null)
    )
    return Histogram(edges, clear, flags, is_log, threshold, nulls if len(null) else None)


def _edges(
    ends: NDArray[np.float64], threshold: float | None, *, is_log: bool
) -> NDArray[np.float64]:
    """Return even edges; the one nearest to the threshold moves onto it, so no bin straddles it."""
    low, high = np.log10(ends) if is_log else ends
    margin = (high - low) * 0.02 or 0.5
    steps = np.linspace(low - margin, high + margin, NUM_BINS + 1)
    edges = 10**steps if is_log else steps
    if threshold is not None and edges[1] < threshold < edges[-2]:
        # np.histogram counts [low, high), a threshold is exceeded: the edge lies just above it.
        edges[int(np.abs(edges - threshold).argmin())] = np.nextafter(threshold, np.inf)
    return edges


def as_svg(found: Histogram, size: tuple[int, int], *, log: bool = True) -> str:
    """Return areas, the threshold, and null captions as a line, in the colours of the page.

    Args:
        found: The distribution.
        size: Width and height in pixels at which letters have the page's size.
        log: Whether heights are logarithms of counts above 1.
    """
    return svg.drawn(partial(draw, found=found, log=log), size)


def draw(axes: "Axes", found: Histogram, *, log: bool) -> None:
    """Draw a distribution on axes."""
    from matplotlib.ticker import MaxNLocator

    for counts, name, label in (
        (found.clear + found.flagged, "clear", "clear"), (found.flagged, "flag", "flagged"),
    ):  # fmt: skip
        axes.stairs(counts, found.edges, fill=True, color=COLOURS[name], label=label)
    if found.null is not None:
        label = f"{found.null.sum():,} null captions (calibration)"
        axes.stairs(found.null, found.edges, color=COLOURS["accent"], lw=2, label=label)
    if found.threshold is not None and math.isfinite(found.threshold):
        label = f"threshold {found.threshold:.4g}"
        axes.axvline(found.threshold, color=COLOURS["ink"], lw=2, ls="--", label=label)
    span = found.edges[-1] / found.edges[0] if found.is_log else 0
    if found.is_log:
        log_axis(axes, (1, 3) if span < 1000 else (1,))
    if span < 10:
        axes.xaxis.set_major_locator(MaxNLocator(6))
    svg.count_heights(axes, log=log)
    svg.plain(axes)
    axes.set_xlim(found.edges[0], found.edges[-1])
