"""The distribution of a run's scores, as numbers and as an SVG that grows with the page."""

import math
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
    """

    edges: NDArray[np.float64]
    clear: NDArray[np.int64]
    flagged: NDArray[np.int64]
    is_log: bool
    threshold: float | None

    def place(self, score: float) -> float:
        """Return where a score stands on the axis, 0 to 1."""
        low, high = self._axis(float(self.edges[0])), self._axis(float(self.edges[-1]))
        return min(1.0, max(0.0, (self._axis(score) - low) / (high - low)))

    def _axis(self, score: float) -> float:
        return math.log10(max(score, 1e-300)) if self.is_log else score


def histogram(con: duckdb.DuckDBPyConnection, threshold: float | None) -> Histogram | None:
    """Count a run's captions by mean score; null if none has one.

    Args:
        con: Views of one run.
        threshold: Score above which captions are flagged, where it is known.
    """
    rows = con.execute(
        "SELECT delta_s, coalesce(flagged, false) AS flagged FROM captions "
        "WHERE delta_s IS NOT NULL"
    ).fetchnumpy()
    scores, flagged = np.asarray(rows["delta_s"], float), np.asarray(rows["flagged"], bool)
    if not len(scores):
        return None
    is_log = bool((scores > 0).all())
    ends = np.array([scores.min(), scores.max()])
    if threshold is not None and math.isfinite(threshold) and (threshold > 0 or not is_log):
        ends = np.array([min(ends[0], threshold), max(ends[1], threshold)])
    edges = _edges(ends, threshold, is_log=is_log)
    clear, flags = (np.histogram(scores[s], edges)[0] for s in (~flagged, flagged))
    return Histogram(edges, clear, flags, is_log, threshold)


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
    """Return the bars as SVG without text, which stretches to any width.

    A bar's height is the logarithm of its count: a handful of findings stays visible beside
    millions of clear captions.
    """
    top = np.log1p((found.clear + found.flagged).max())
    bars = []
    for i, (clear, flagged) in enumerate(zip(found.clear, found.flagged, strict=True)):
        whole = HEIGHT * float(np.log1p(clear + flagged) / top)
        part = whole * float(flagged) / max(1, int(clear + flagged))
        left, right = (WIDTH * found.place(float(edge)) for edge in found.edges[i : i + 2])
        title = (
            f"<title>{found.edges[i]:.3g} to {found.edges[i + 1]:.3g}: "
            f"{clear + flagged} captions, {flagged} flagged</title>"
        )
        for css, height, above in (("flag", part, 0.0), ("clear", whole - part, part)):
            if height > 0:
                y = HEIGHT - above - height
                bars.append(
                    f'<rect class="{css}" x="{left + 1:.1f}" y="{y:.1f}" '
                    f'width="{max(1.0, right - left - 2):.1f}" height="{height:.1f}">{title}</rect>'
                )
    line = ""
    if found.threshold is not None and math.isfinite(found.threshold):
        x = WIDTH * found.place(found.threshold)
        line = f'<line class="cut" x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{HEIGHT}"/>'
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" preserveAspectRatio="none" role="img" '
        f'aria-label="Captions by score">{"".join(bars)}{line}</svg>'
    )


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
