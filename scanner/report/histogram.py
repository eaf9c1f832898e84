"""The distribution of a run's scores, as numbers and as an SVG that grows with the page."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import duckdb
import numpy as np
from numpy.typing import NDArray

NUM_BINS = 48
WIDTH, HEIGHT = 960, 220


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

    @property
    def top(self) -> int:
        """The most captions in a bin."""
        highest = int((self.clear + self.flagged).max())
        return highest if self.null is None else max(highest, int(self.null.max()))

    def height(self, count: float) -> float:
        """Return how high a count stands, 0 to 1, by its logarithm.

        So a handful of findings stays visible beside millions of clear captions.
        """
        return math.log1p(count) / math.log1p(max(1, self.top))

    def place(self, score: float) -> float:
        """Return where a score stands on the axis, 0 to 1."""
        low, high = self._axis(float(self.edges[0])), self._axis(float(self.edges[-1]))
        return min(1.0, max(0.0, (self._axis(score) - low) / (high - low)))

    def _axis(self, score: float) -> float:
        return math.log10(max(score, 1e-300)) if self.is_log else score


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


def as_svg(found: Histogram) -> str:
    """Return bars, and null captions as a line, as SVG without text that grows to any width."""
    places = [WIDTH * found.place(float(edge)) for edge in found.edges]
    bars = []
    for i, (clear, flagged) in enumerate(zip(found.clear, found.flagged, strict=True)):
        whole = HEIGHT * found.height(clear + flagged)
        part = whole * float(flagged) / max(1, int(clear + flagged))
        title = (
            f"<title>{found.edges[i]:.3g} to {found.edges[i + 1]:.3g}: "
            f"{clear + flagged} captions, {flagged} flagged</title>"
        )
        for css, height, above in (("flag", part, 0.0), ("clear", whole - part, part)):
            if height > 0:
                y = HEIGHT - above - height
                bars.append(
                    f'<rect class="{css}" x="{places[i] + 1:.1f}" y="{y:.1f}" width="'
                    f'{max(1.0, places[i + 1] - places[i] - 2):.1f}" height="{height:.1f}">'
                    f"{title}</rect>"
                )
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" preserveAspectRatio="none" role="img" '
        f'aria-label="{_summary(found)}">{"".join(bars)}{_lines(found, places)}</svg>'
    )


def _summary(found: Histogram) -> str:
    captions, flagged = int((found.clear + found.flagged).sum()), int(found.flagged.sum())
    low, high = found.edges[0], found.edges[-1]
    told = f"{captions:,} captions by score, from {low:.3g} to {high:.3g}; {flagged:,} flagged"
    if found.threshold is not None and math.isfinite(found.threshold):
        told += f"; threshold {found.threshold:.4g}"
    return told if found.null is None else f"{told}; beside {found.null.sum():,} null captions"


def _lines(found: Histogram, places: list[float]) -> str:
    """Return the outline of the null captions and the threshold."""
    out = ""
    if found.null is not None:
        levels = [HEIGHT * (1 - found.height(int(count))) for count in found.null]
        steps = "".join(f"H{x:.1f}V{y:.1f}" for x, y in zip(places, levels, strict=False))
        out = f'<path class="null" d="M{places[0]:.1f} {HEIGHT}{steps}H{places[-1]:.1f}V{HEIGHT}"/>'
    if found.threshold is not None and math.isfinite(found.threshold):
        x = WIDTH * found.place(found.threshold)
        out += f'<line class="cut" x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{HEIGHT}"/>'
    return out


def levels(found: Histogram) -> list[tuple[float, str]]:
    """Return heights and labels of counts, powers of ten, along the axis."""
    powers = [10**e for e in range(9) if 10**e <= found.top]
    powers = powers[:: max(1, math.ceil(len(powers) / 4))]
    return [(found.height(count), f"{count:,}") for count in powers]


def ticks(found: Histogram) -> list[tuple[float, str]]:
    """Return places and labels of at most six round scores along the axis."""
    if found.is_log:
        low, high = math.log10(found.edges[0]), math.log10(found.edges[-1])
        wide = high - low > 1.2
        digits = (1,) if high - low > 3 else (1, 3) if wide else (1, 1.5, 2, 3, 4, 5, 7)
        values = [d * 10.0**e for e in range(math.floor(low), math.ceil(high) + 1) for d in digits]
    else:
        values = np.linspace(found.edges[0], found.edges[-1], 5).tolist()
    values = [v for v in values if found.edges[0] <= v <= found.edges[-1]]
    values = values[:: max(1, math.ceil(len(values) / 6))]
    return [(found.place(value), _label(value)) for value in values]


def _label(value: float) -> str:
    return f"{value:,.0f}" if 100 <= abs(value) < 1e7 else f"{value:.3g}"
